package pool

// Key returns what makes the endpoint the same for all clients: its addresses in any order, where a name is the
// address that this client saw first.
func (e *Endpoint) Key() string { return e.key }
