package steadytest

// GateChecks are the checks of TestGate by name, to be tried on broken gates. They run in a bubble.
func GateChecks() map[string]func(newGate func() Gate) error {
	checks := map[string]func(newGate func() Gate) error{}
	for _, c := range gateChecks {
		checks[c.name] = c.run
	}
	return checks
}

// Arrive and End write a call down as the interceptors do, without a server.
func (r *Replica) Arrive() (end func()) {
	live := r.arrive(Call{Replica: r.name})
	return func() { r.end(live, nil) }
}
