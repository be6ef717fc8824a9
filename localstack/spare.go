package localstack

import (
	"net"
	"net/http"
	"sync"
)

// spares are the connections on which nothing was sent yet. A client dials one
// and then uses another that has become free; Server.Shutdown would wait for it
// for five seconds.
type spares struct {
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// note is the server's ConnState hook.
func (s *spares) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(s.conns, c)
	case s.closed:
		_ = c.Close() // nobody has used it
	default:
		s.conns[c] = struct{}{}
	}
}

// close ends them all, and each that comes later.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close() // nobody has used it
	}
}
