// Package healthsvc is the standard grpc.health.v1 service (Check, Watch and List) that tells whether a
// server can serve, and the lifecycle of the server around it.
//
// A server that says SERVING at its start and never again gets traffic while its database is gone, and its
// GracefulStop hangs on the first open Watch. Here dependencies are checked in the background, the answers
// follow from what the checks found, and a drain tells the watchers, waits for them, and lets them go before
// the server stops.
//
//	health, err := healthsvc.New(
//		healthsvc.WithCheck("database", healthsvc.SQL(db), healthsvc.Every(5*time.Second)),
//		healthsvc.WithCheck("disk", healthsvc.DiskFree("/var/lib/orders", healthsvc.Percent(5)), healthsvc.Degrading()),
//		healthsvc.WithService("orders.v1.Orders", "database"),
//	)
//	if err != nil {
//		return err
//	}
//	srv := grpc.NewServer()
//	ordersv1.RegisterOrdersServer(srv, &orders{})
//	health.Register(srv)
//	return health.Serve(ctx, srv, lis) // until ctx ends, then drains
//
// # Names
//
// Check and Watch answer for these names; any other is unknown, as the protocol says.
//
//	""          the process: as readiness
//	readiness   can it take traffic: every critical check is up, or those of WithReadiness
//	liveness    is it worth keeping: depends on nothing but watchdogs that the program feeds
//	startup     has it been ready once: stays SERVING from then on
//	services    those of WithService and AddService by their dependencies; services that were only registered
//	            with the gRPC server follow readiness
//
// # Checks
//
// A check runs in the background and only there: Check, Watch and List read what it found last and never
// call a dependency. It falls after [Fall] failed probes in a row and rises after [Rise] good ones, so that
// one lost probe changes nothing. A probe that panics, calls Goexit, hangs past its timeout or comes back
// late has failed, and no second probe of a check is begun while one is under way.
//
// # When not to use it
//
// Not to decide which of many servers to call: that is the balancer's work, which a Watch of this service
// informs. Not for metrics of dependencies: a check says up or down.
package healthsvc
