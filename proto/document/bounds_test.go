package document_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/grpcsteady/steady/proto/document"
)

// manyRules is a document of n rules.
func manyRules(n int, rule string) string {
	var b strings.Builder
	if strings.Contains(rule, "*d") {
		b.WriteString("x-defaults: &d\n  deadline: {default: 250ms, attemptTimeout: 100ms}\n" +
			"  retryPolicy: {maxAttempts: 3, retryableStatusCodes: [UNAVAILABLE]}\n  breaker: {failureRatio: 0.3, openTime: 10s}\n")
	}
	b.WriteString("methodConfig:\n")
	for i := range n {
		fmt.Fprintf(&b, "- {name: [{service: orders.v1.Orders, method: Get%d}], %s}\n", i, rule)
	}
	return b.String()
}

const (
	longRule   = "timeout: 250ms, retryPolicy: {maxAttempts: 3}"
	mergedRule = "<<: *d"
)

// laughs is a bomb of aliases, each level ten times the one before.
func laughs(levels int, open, last string) string {
	var b strings.Builder
	b.WriteString("x-0: &a0 " + last + "\n")
	for i := 1; i <= levels; i++ {
		fmt.Fprintf(&b, "x-%d: &a%d ", i, i)
		fmt.Fprintf(&b, open, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
		b.WriteByte('\n')
	}
	return b.String()
}

func fill(piece string) string { return strings.Repeat(piece, document.MaxSize/len(piece)) }

// TestWorkIsBounded: what is large or made to be dear is a clear error or a document, after work that a
// process can afford. Work is counted in allocations and bytes, which do not depend on the machine.
func TestWorkIsBounded(t *testing.T) {
	nested := "x-b: &b0 {a: 1}\n"
	for i := range 200 {
		nested += fmt.Sprintf("x-b%d: &b%d {a: *b%d}\n", i+1, i+1, i)
	}
	merges := "x-0: &m {" + strings.Repeat("k", 10)
	for i := range 1000 {
		merges += fmt.Sprintf(", k%d: 1", i)
	}
	merges += "}\nloadBalancingConfig:\n" + strings.Repeat("- {<<: *m}\n", 50_000)
	for _, tt := range []struct{ name, file, give, want string }{ // want "": a document
		{"10,000 rules", "x.yaml", manyRules(10_000, longRule), ""},
		{"10,000 rules of anchors", "x.yaml", manyRules(10_000, mergedRule), ""},
		{"too large", "x.yaml", fill(" ") + " ", "larger than 1048576 bytes"},
		{"spaces", "x.yaml", fill(" "), "the document is empty"},
		{"comments", "x.yaml", fill("# a comment\n"), "the document is empty"},
		{"one long string", "x.yaml", "a: " + fill("a")[:document.MaxSize-3], "unknown key"},
		{"one long key", "x.json", `{"` + fill("a")[:document.MaxSize-7] + `": 1}`, ""},
		{"numbers", "x.yaml", "[" + fill("1,")[2:] + "]", "lines, commas and colons, want at most 250000"},
		{"numbers in JSON", "x.json", "[" + fill("1,")[4:] + "1]", "lines, commas and colons, want at most 250000"},
		{"lines", "x.yaml", fill("a:\n"), "lines, commas and colons, want at most 250000"},
		{"anchors", "x.yaml", fill("- &a a\n"), "the document is a list"},
		{"keys all alike", "x.yaml", strings.Repeat("abc: 1\n", 100_000), "stands on line 1 already"},
		{"brackets", "x.yaml", fill("["), "exceeded max depth"},
		{"brackets in JSON", "x.json", fill("["), "exceeded max depth"},
		{"braces", "x.yaml", fill("{a:  "), "exceeded max depth"},
		{"dashes", "x.yaml", fill("- "), "exceeded max depth"},
		{"questions", "x.yaml", fill("? "), "exceeded max depth"},
		{"documents", "x.yaml", fill("---\n"), "x.yaml"},
		{"quotes", "x.yaml", fill("\"a\n"), "x.yaml"},
		{"bangs", "x.yaml", fill("!"), "x.yaml"},
		{"invalid UTF-8", "x.yaml", fill("a")[1:] + "\xff", "byte 0xff is no UTF-8"},
		{"laughs in a policy", "x.yaml", laughs(9, "[%s]", "lol") + "loadBalancingConfig: [{a: {b: *a9}}]", "more than 400000 values"},
		{"laughs in names", "x.yaml", laughs(6, "[%s]", "lol") + "methodConfig: [{name: *a6}]", "want an object"},
		{"laughs of merges", "x.yaml", laughs(9, "{<<: [%s]}", "{a: 1}") + "methodConfig: [*a9]", "unknown key"},
		{"laughs of long strings", "x.yaml", laughs(4, "[%s]", strings.Repeat("lol", 10_000)) + "loadBalancingConfig: [{a: {b: *a4}}]", "more than 2097152 bytes large"},
		{"laughs that nobody reads", "x.yaml", laughs(9, "[%s]", "lol"), ""},
		{"deep by aliases", "x.yaml", nested + "loadBalancingConfig: [{a: *b200}]", "more than 64 levels deep"},
		{"merges of large objects", "x.yaml", merges, "more than 400000 values"},
		{"one rule many times", "x.yaml", "x-0: &r {name: [{}]}\nmethodConfig: [" + strings.Repeat("*r, ", 200_000) + "]", "more than 400000 values"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var opts []document.Option
			if tt.name == "one long key" {
				opts = append(opts, document.Lenient())
			}
			_, err := document.Read(tt.file, []byte(tt.give), opts...)
			runtime.ReadMemStats(&after)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%.300v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %.300v\nwant %s", err, tt.want)
			case err != nil && len(err.Error()) > 16<<10:
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			n, size := after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
			t.Logf("%d allocations, %d MiB", n, size>>20)
			if n > 2_000_000 || size > 160<<20 {
				t.Errorf("%d allocations, %d MiB", n, size>>20)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, bb := range []struct{ name, file, give string }{
		{"rules=1", "x.yaml", manyRules(1, longRule)},
		{"rules=10000", "x.yaml", manyRules(10_000, longRule)},
		{"rules=10000,anchors", "x.yaml", manyRules(10_000, mergedRule)},
		{"laughs", "x.yaml", laughs(9, "[%s]", "lol") + "loadBalancingConfig: [{a: {b: *a9}}]"},
		{"dense", "x.yaml", strings.Repeat("abc: 1\n", 124_000)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.give)))
			for b.Loop() {
				_, _ = document.Read(bb.file, []byte(bb.give))
			}
		})
	}
	b.Run("rules=10000,json", func(b *testing.B) {
		text := jsonRules(9_000)
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			read(b, "x.json", text)
		}
	})
}

func jsonRules(n int) string {
	var rules []string
	for i := range n {
		rules = append(rules, fmt.Sprintf(`{"name":[{"service":"orders.v1.Orders","method":"Get%d"}],"timeout":"0.25s","retryPolicy":{"maxAttempts":3}}`, i))
	}
	return `{"methodConfig":[` + strings.Join(rules, ",") + `]}`
}
