package kube_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	rbacclient "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/client-go/rest"
)

// cluster is a real etcd and a real kube-apiserver on loopback, with RBAC, and nothing else: what controllers write
// is written by the test. Its programs come from STEADY_ETCD and STEADY_KUBE_APISERVER, which .ci/heavy/kube sets.
type cluster struct {
	t    *testing.T
	dir  string
	etcd *process
	api  *process

	core   *coreclient.CoreV1Client
	rbac   *rbacclient.RbacV1Client
	slices discoveryclient.EndpointSliceInterface // of namespace shop
}

const (
	apiPort  = "16443"
	apiURL   = "https://127.0.0.1:" + apiPort
	etcdURL  = "http://127.0.0.1:23790"
	etcdPeer = "http://127.0.0.1:23800"
)

func newCluster(t *testing.T) *cluster {
	for _, v := range []string{"STEADY_ETCD", "STEADY_KUBE_APISERVER"} {
		if os.Getenv(v) == "" {
			t.Skip("no " + v + ": .ci/heavy/kube runs this test")
		}
	}
	c := &cluster{t: t, dir: t.TempDir()}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c.write("sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	c.write("tokens.csv", []byte(`admin-token,admin,admin,"system:masters"`+"\n"))
	c.etcd = c.run("etcd", os.Getenv("STEADY_ETCD"), "--data-dir", c.path("etcd"),
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
		"--listen-peer-urls", etcdPeer, "--initial-advertise-peer-urls", etcdPeer, "--initial-cluster", "default="+etcdPeer)
	t.Cleanup(c.etcd.kill) // after the API server, which would linger without it
	c.startAPI()
	t.Cleanup(func() { c.api.kill() })

	admin := c.config("admin-token")
	admin.QPS = -1
	c.core, err = coreclient.NewForConfig(admin)
	must(t, err)
	c.rbac, err = rbacclient.NewForConfig(admin)
	must(t, err)
	d, err := discoveryclient.NewForConfig(admin)
	must(t, err)
	c.slices = d.EndpointSlices("shop")
	for _, n := range []string{"shop", "web"} {
		_, err := c.core.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}}, metav1.CreateOptions{})
		must(t, err)
	}
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) write(name string, data []byte) {
	c.t.Helper()
	must(c.t, os.WriteFile(c.path(name), data, 0o600))
}

// startAPI starts the API server and waits until it is ready.
func (c *cluster) startAPI() {
	c.t.Helper()
	began := time.Now()
	c.api = c.run("api", os.Getenv("STEADY_KUBE_APISERVER"), "--etcd-servers", etcdURL, "--bind-address", "127.0.0.1",
		"--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none", "--secure-port", apiPort,
		"--cert-dir", c.path("certs"), "--token-auth-file", c.path("tokens.csv"), "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", c.path("sa.key"),
		"--service-account-signing-key-file", c.path("sa.key"), "--service-cluster-ip-range", "10.0.0.0/24",
		"--disable-admission-plugins", "ServiceAccount")
	var client *coreclient.CoreV1Client
	c.until("the API server is ready", func() bool {
		select {
		case <-c.api.done:
			c.t.Fatalf("kube-apiserver has ended: %s", c.api.tail())
		default:
		}
		if client == nil {
			if _, err := os.Stat(c.path("certs/apiserver.crt")); err != nil {
				return false
			}
			var err error
			client, err = coreclient.NewForConfig(c.config("admin-token"))
			must(c.t, err)
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil
	})
	c.t.Logf("kube-apiserver is ready after %v", time.Since(began).Round(100*time.Millisecond))
}

// config is that of a client with a bearer token, which trusts the API server's own certificate.
func (c *cluster) config(token string) *rest.Config {
	return &rest.Config{Host: apiURL, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: c.path("certs/apiserver.crt")}}
}

// until waits for something that other processes do.
func (c *cluster) until(what string, done func() bool) {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(90 * time.Second)
	defer late.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-late.C:
			c.t.Fatalf("waited 90 s for this: %s\n%s", what, c.api.tail())
		}
	}
}

// apply creates what a manifest says.
func (c *cluster) apply(manifest []byte) {
	c.t.Helper()
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		var raw struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
			Rules             []rbacv1.PolicyRule `json:"rules"`
			RoleRef           rbacv1.RoleRef      `json:"roleRef"`
			Subjects          []rbacv1.Subject    `json:"subjects"`
		}
		err := docs.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return
		}
		must(c.t, err)
		ctx, meta := c.t.Context(), raw.ObjectMeta
		switch raw.Kind {
		case "ServiceAccount":
			_, err = c.core.ServiceAccounts(meta.Namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
		case "Role":
			_, err = c.rbac.Roles(meta.Namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: raw.Rules}, metav1.CreateOptions{})
		case "RoleBinding":
			_, err = c.rbac.RoleBindings(meta.Namespace).Create(ctx,
				&rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: raw.RoleRef, Subjects: raw.Subjects}, metav1.CreateOptions{})
		default:
			c.t.Fatalf("a manifest with a %s", raw.Kind)
		}
		must(c.t, err)
	}
}

// token returns one for a ServiceAccount, as kubelet would get it for a pod.
func (c *cluster) token(namespace, account string) string {
	c.t.Helper()
	r, err := c.core.ServiceAccounts(namespace).CreateToken(c.t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(c.t, err)
	return r.Status.Token
}

// set writes slices of namespace shop, as the EndpointSlice controller does.
func (c *cluster) set(all ...*discoveryv1.EndpointSlice) {
	c.t.Helper()
	for _, s := range all {
		_, err := c.slices.Update(c.t.Context(), s, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = c.slices.Create(c.t.Context(), s, metav1.CreateOptions{})
		}
		must(c.t, err)
	}
}

func (c *cluster) remove(names ...string) {
	c.t.Helper()
	for _, n := range names {
		must(c.t, c.slices.Delete(c.t.Context(), n, metav1.DeleteOptions{}))
	}
}

// clear removes all slices.
func (c *cluster) clear() {
	c.t.Helper()
	must(c.t, c.slices.DeleteCollection(c.t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
}

// process is a program that the test has started.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

func (c *cluster) run(name, program string, args ...string) *process {
	c.t.Helper()
	p := &process{cmd: exec.Command(program, args...), log: c.path(name + ".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(c.t, err)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.dir, out, out
	must(c.t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // it is killed
		out.Close()
	}()
	return p
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// tail returns the end of its log.
func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-2000):])
}
