package kube

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// access is the way to the API server, which all resolvers of a builder share: one connection for any number of
// channels. It exists while there is a resolver, so that a configuration that changes is read anew after that.
type access struct {
	settings

	mu        sync.Mutex // guards what follows
	users     int
	client    rest.Interface
	namespace string
	conns     *conns // nil: not ours
}

// acquire returns the client and the namespace of targets without one; "": there is none. Who got no error
// calls release once.
func (a *access) acquire() (rest.Interface, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == 0 {
		if err := a.open(); err != nil {
			return nil, "", err
		}
	}
	a.users++
	return a.client, a.namespace, nil
}

// release closes the connections if nobody is left. They are not shared with other clients of this process, which
// client-go would do by itself, so that none stays behind.
func (a *access) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users--; a.users > 0 {
		return
	}
	a.client = nil
	if a.conns != nil {
		a.conns.closeAll()
		a.conns = nil
	}
}

// open needs mu.
func (a *access) open() error {
	if a.given != nil {
		a.client, a.namespace = a.given, podNamespace()
		return nil
	}
	config, namespace, err := a.load()
	if err != nil {
		return err
	}
	if config.QPS == 0 {
		// client-go's default is 5 requests a second for all channels together. Each of ours makes one list and
		// one watch and has its own backoff.
		config.QPS = -1
	}
	conns := newConns(config.Dial)
	if config.Transport == nil { // else the user's own, which dials by itself
		config.Dial = conns.DialContext
	}
	client, err := newClient(config)
	if err != nil {
		return err
	}
	a.client, a.namespace, a.conns = client, namespace, conns
	return nil
}

// newClient returns a client for EndpointSlices alone. client-go's generated one knows every kind of Kubernetes, which
// would make a program 16 MB larger.
func newClient(config *rest.Config) (rest.Interface, error) {
	kinds := runtime.NewScheme()
	if err := discoveryv1.AddToScheme(kinds); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(kinds, schema.GroupVersion{Version: "v1"}) // the status of an error
	config.GroupVersion = &discoveryv1.SchemeGroupVersion
	config.APIPath = "/apis"
	config.NegotiatedSerializer = rest.CodecFactoryForGeneratedClient(kinds, serializer.NewCodecFactory(kinds)).WithoutConversion()
	if config.ContentType == "" && config.AcceptContentTypes == "" {
		config.ContentType = runtime.ContentTypeProtobuf
		config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	}
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	return rest.RESTClientFor(config)
}

// load returns where the API server is, in a copy, and the namespace that goes with it.
func (s *settings) load() (*rest.Config, string, error) {
	if s.config != nil {
		return rest.CopyConfig(s.config), podNamespace(), nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if s.kubeconfig != nil {
		rules.ExplicitPath = s.kubeconfig.path
	} else {
		config, err := rest.InClusterConfig()
		if !errors.Is(err, rest.ErrNotInCluster) {
			return config, podNamespace(), err
		}
	}
	overrides := &clientcmd.ConfigOverrides{}
	if s.kubeconfig != nil {
		overrides.CurrentContext = s.kubeconfig.context
	}
	file := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	config, err := file.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, "", fmt.Errorf("this is no pod with a service account, and there is no kubeconfig: %w", err)
	}
	if err != nil {
		return nil, "", err
	}
	namespace, _, err := file.Namespace()
	return config, namespace, err
}

// namespaceFile tells a pod its namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// podNamespace returns the namespace of the pod we are in; "": not known. The variable is the usual one for pods
// without a mounted token; client-go heeds it too.
func podNamespace() string {
	if ns := os.Getenv("POD_NAMESPACE"); ns != "" {
		return ns
	}
	b, err := os.ReadFile(namespaceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
