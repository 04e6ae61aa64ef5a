package dns

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// What gRFC A2 calls things.
const (
	txtPrefix    = "_grpc_config."
	txtAttribute = "grpc_config="
	language     = "go"
)

// choice is one entry of the list. What else stands there is passed over, as A2 demands.
type choice struct {
	ClientLanguage []string        `json:"clientLanguage"`
	ClientHostname []string        `json:"clientHostname"`
	Percentage     *int            `json:"percentage"`
	ServiceConfig  json.RawMessage `json:"serviceConfig"`
}

// serviceConfig asks for the service config of a name; "": there is none for us.
func (s *settings) serviceConfig(ctx context.Context, l Lookup, n name, draw float64) (string, error) {
	texts, err := l.LookupTXT(ctx, txtPrefix+n.host)
	if absent(err) {
		return "", nil
	}
	if err != nil {
		return "", explain(err, n.server)
	}
	return choose(texts, s.host, draw)
}

// choose returns the service config that is ours. The error tells what is wrong with the records.
func choose(texts []string, host string, draw float64) (string, error) {
	texts = slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return !strings.HasPrefix(s, txtAttribute) })
	switch len(texts) {
	case 0:
		return "", nil // other people's records
	case 1:
	default:
		// gRPC's own strings all records together, whose order no name server keeps.
		return "", fmt.Errorf("%d TXT records begin with %s, want one", len(texts), txtAttribute)
	}
	var choices []choice
	if err := json.Unmarshal([]byte(strings.TrimPrefix(texts[0], txtAttribute)), &choices); err != nil {
		return "", fmt.Errorf("the TXT record is no list of choices: %w", err)
	}
	for i, c := range choices {
		if p := c.Percentage; p != nil && (*p < 0 || *p > 100) {
			return "", fmt.Errorf("choice %d of the TXT record: percentage %d, want 0 to 100", i+1, *p)
		}
		if len(c.ServiceConfig) == 0 || string(c.ServiceConfig) == "null" {
			return "", fmt.Errorf("choice %d of the TXT record has no serviceConfig", i+1)
		}
	}
	for _, c := range choices {
		if meets(c.ClientLanguage, language) && meets(c.ClientHostname, host) && (c.Percentage == nil || draw*100 < float64(*c.Percentage)) {
			return string(c.ServiceConfig), nil
		}
	}
	return "", nil
}

// meets reports whether a list has s, in whatever case; no list asks for nothing.
func meets(list []string, s string) bool {
	return list == nil || slices.ContainsFunc(list, func(l string) bool { return strings.EqualFold(l, s) })
}

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "" // no choice for a host is ours
	}
	return h
}
