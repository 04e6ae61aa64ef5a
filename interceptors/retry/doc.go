// Package retry decides whether a failed attempt is followed by another one, and after what wait: backoff
// with jitter, a limit of attempts and of time, a budget that keeps retries from becoming the load, and the
// server's own word about when to come back.
//
// The pieces are separate. [Config.Backoff] is a formula. A [Budget] bounds the retries of everything that
// shares it. A [Sequence] is the state of one call: it asks all of them in one fixed order. [Do] puts them
// around a function, for what is not gRPC; for gRPC use interceptors/steady, which knows codes, trailers and
// endpoints.
//
//	budget, err := retry.NewBudget(retry.BudgetConfig{})
//	err = retry.Do(ctx, retry.Config{}, func(ctx context.Context) error { return send(ctx, order) },
//		retry.WithBudget(budget))
//
// # When not to retry
//
// What has an effect each time it is done; what failed because it was wrong; and what another layer retries
// already: attempts multiply, and three layers of four attempts are 64.
package retry
