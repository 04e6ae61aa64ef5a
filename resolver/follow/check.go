package follow

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/grpc/balancer"

	"github.com/grpcsteady/steady/proto/document"
)

// packages are what has to be imported for a policy that is no part of package grpc itself.
var packages = map[string]string{
	"steady_least_request":           "github.com/grpcsteady/steady/balancer/leastrequest",
	"steady_weighted":                "github.com/grpcsteady/steady/balancer/weighted",
	"steady_consistent_hash":         "github.com/grpcsteady/steady/balancer/consistenthash",
	"least_request_experimental":     "google.golang.org/grpc/balancer/leastrequest",
	"weighted_round_robin":           "google.golang.org/grpc/balancer/weightedroundrobin",
	"ring_hash_experimental":         "google.golang.org/grpc/balancer/ringhash",
	"random_subsetting_experimental": "google.golang.org/grpc/balancer/randomsubsetting",
	"weighted_target_experimental":   "google.golang.org/grpc/balancer/weightedtarget",
	"rls_experimental":               "google.golang.org/grpc/balancer/rls",
	"grpclb":                         "google.golang.org/grpc/balancer/grpclb",
	"outlier_detection_experimental": "google.golang.org/grpc/xds",
	"priority_experimental":          "google.golang.org/grpc/xds",
}

// Check returns what gRPC would find wrong with the balancing policies of a document, before it is put in
// force: none of them is in the program (the error says what to import), or the first one that is does not
// take what it is told. The error is a [*document.Error].
func Check(d *document.Document) error {
	var config struct {
		Policies []map[string]json.RawMessage `json:"loadBalancingConfig"`
	}
	if err := json.Unmarshal([]byte(d.ForSteady()), &config); err != nil {
		return d.Errorf("loadBalancingConfig", "can not be rendered: %v", err)
	}
	var missing []string
	for i, p := range config.Policies {
		for name, told := range p { // one
			b := balancer.Get(name)
			if b == nil {
				missing = append(missing, absent(name))
				continue
			}
			if err := parse(b, told); err != nil {
				return d.Errorf(fmt.Sprintf("loadBalancingConfig[%d]", i), "%s: %v", name, err)
			}
			return nil // gRPC takes the first one it knows
		}
	}
	if len(missing) > 0 {
		return d.Errorf("loadBalancingConfig", "no policy of it is in this program: %s", strings.Join(missing, "; "))
	}
	return nil
}

func absent(name string) string {
	if p, ok := packages[name]; ok {
		return fmt.Sprintf("%s wants import _ %q", name, p)
	}
	return fmt.Sprintf("%s wants an import of the package that registers it", name)
}

func parse(b balancer.Builder, told json.RawMessage) error {
	p, ok := b.(balancer.ConfigParser)
	if !ok {
		// gRPC passes over it, with a line in its log.
		if s := strings.Join(strings.Fields(string(told)), ""); s != "{}" && s != "null" {
			return fmt.Errorf("the policy takes no configuration, want {}")
		}
		return nil
	}
	_, err := p.ParseConfig(told)
	return err
}
