package kube_test

import (
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/grpcsteady/steady/resolver/kube"
)

// TestManifests: what the README shows is what the files say, Kubernetes knows every field of it, and the Role grants what
// is asked for and no more.
func TestManifests(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rbac.yaml", "deployment.yaml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(readme), "```yaml\n"+string(b)+"```") {
			t.Errorf("the README shows another %s", name)
		}
	}
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var kinds []string
	for _, block := range strings.Split(string(readme), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for doc := range strings.SplitSeq(block, "\n---\n") {
			obj, gvk, err := strict.Decode([]byte(doc), nil, nil)
			if err != nil {
				t.Errorf("%v in\n%s", err, doc)
				continue
			}
			kinds = append(kinds, gvk.Kind)
			checkManifest(t, obj)
		}
	}
	if got := strings.Join(kinds, " "); got != "ServiceAccount Role RoleBinding Deployment EndpointSlice" {
		t.Error(got)
	}
}

func checkManifest(t *testing.T, obj runtime.Object) {
	switch o := obj.(type) {
	case *rbacv1.Role:
		if len(o.Rules) != 1 || strings.Join(o.Rules[0].Verbs, " ") != "list watch" || strings.Join(o.Rules[0].Resources, " ") != "endpointslices" ||
			strings.Join(o.Rules[0].APIGroups, " ") != discoveryv1.GroupName {
			t.Errorf("the Role grants %+v", o.Rules)
		}
	case *appsv1.Deployment:
		_, target, _ := strings.Cut(o.Spec.Template.Spec.Containers[0].Args[0], "kube:///")
		if got, err := kube.ParseTarget(target); err != nil || got.String() != "orders.shop:grpc" {
			t.Errorf("the Deployment's target is %v, %v", got, err)
		}
	case *discoveryv1.EndpointSlice:
		if o.Annotations[kube.WeightAnnotation] != "3" {
			t.Errorf("the EndpointSlice has %v", o.Annotations)
		}
	}
}
