package rmgrpc

// A signal wakes all who wait for a change: they take the channel, let go of the lock that guards the signal, and receive.
type signal chan struct{}

func newSignal() signal { return make(signal) }

// raise wakes all who wait now.
func (s *signal) raise() {
	close(*s)
	*s = newSignal()
}
