// Package document reads, checks, renders and watches the documents of steady: rules and balancer of a
// channel in one file, YAML or JSON, a superset of gRPC's service config. What can be written is said by
// [steadyv1.Config], whose comments are the manual of every knob.
//
//	doc, err := document.Load("orders.yaml")
//	if err != nil {
//		return err // orders.yaml:12:20: methodConfig[0].retryPolicy.maxAttempts: 9, want 1 to 5
//	}
//	conn, err := grpc.NewClient(target, grpc.WithDefaultServiceConfig(doc.ForGRPC()))
//
// Files are strict: an unknown key, a value of the wrong type or out of range, a key or name that stands
// twice and two knobs that contradict each other are errors with file, line, column and path. Documents that
// a resolver pushes are read with [Lenient]. Reading is bounded: a document is at most [MaxSize] bytes, 64
// levels deep, and 400,000 values large after anchors are followed.
//
// The package holds no policy: it makes nothing of a document but other documents. Who only wants the rules
// in force uses steady.Load and never meets it.
package document
