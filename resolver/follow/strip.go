package follow

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/grpc"
)

// What the rules do themselves, and gRPC must not do once more: its timeouts would cut a longer one of a call,
// and its retries would multiply.
var (
	ruleKeys   = []string{"timeout", "retryPolicy", "hedgingPolicy"}
	configKeys = []string{"retryThrottling"}
)

const methodsKey = "methodConfig"

// object is a JSON object whose values stay as they were written.
type object map[string]json.RawMessage

// drop removes keys as gRPC's reader of JSON knows them, which does not look at their case.
func (o object) drop(keys []string) {
	for k := range o {
		for _, d := range keys {
			if strings.EqualFold(k, d) {
				delete(o, k)
			}
		}
	}
}

// strip takes out of a service config what the rules do, and puts the mark in. What it does not know passes.
func strip(raw string, m uint32) (string, error) {
	return edit(raw, m, func(top object) { top.drop(configKeys) }, func(rule object) { rule.drop(ruleKeys) })
}

// mark puts only the mark in.
func mark(raw string, m uint32) (string, error) {
	return edit(raw, m, func(object) {}, func(object) {})
}

func edit(raw string, m uint32, top, rule func(object)) (string, error) {
	var config object
	if err := json.Unmarshal([]byte(raw), &config); err != nil {
		return "", err
	}
	if config == nil {
		return "", errors.New("null is no service config")
	}
	top(config)
	if m != 0 && !config.has(methodsKey) {
		config[methodsKey] = json.RawMessage("[]")
	}
	for k, list := range config {
		if !strings.EqualFold(k, methodsKey) { // there may be several, of which gRPC takes one
			continue
		}
		var rules []object
		if err := json.Unmarshal(list, &rules); err != nil {
			return "", err
		}
		for _, r := range rules {
			rule(r)
		}
		if m != 0 {
			rules = append(rules, markRule(m))
		}
		edited, err := json.Marshal(rules)
		if err != nil {
			return "", err
		}
		config[k] = edited
	}
	out, err := json.Marshal(config)
	return string(out), err
}

func (o object) has(key string) bool {
	for k := range o {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

// A mark is a rule for a method that nobody calls, in the service config of one connection: a resolver is not
// told which connection it serves, and a connection tells nothing of its resolver but its service config. The
// number stands there twice, so that somebody else's rule for every method is not taken for a mark.
const (
	markService = "steady.channel.mark"
	markBase    = 1 << 30
)

func markRule(m uint32) object {
	return object{
		"name":                    json.RawMessage(`[{"service":"` + markService + `"}]`),
		"maxRequestMessageBytes":  json.RawMessage(strconv.FormatUint(uint64(m), 10)),
		"maxResponseMessageBytes": json.RawMessage(strconv.FormatUint(uint64(markBase-m), 10)),
	}
}

// MarkOf returns the mark of the service config that a connection has in force; 0: it has none.
func MarkOf(cc *grpc.ClientConn) uint32 {
	c := cc.GetMethodConfig("/" + markService + "/")
	if c.MaxReqSize == nil || c.MaxRespSize == nil {
		return 0
	}
	if m := *c.MaxReqSize; m > 0 && m < markBase && *c.MaxRespSize == markBase-m {
		return uint32(m)
	}
	return 0
}
