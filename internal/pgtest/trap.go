package pgtest

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// Trap is a server of an attacker's: it accepts every connection and keeps what
// it is sent.
type Trap struct {
	Host string
	Port int

	listener net.Listener
	mu       sync.Mutex
	visits   int
	got      []byte
}

// NewTrap listens on a free port of 127.0.0.1 until Close.
func NewTrap() (*Trap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Close ends it
	if err != nil {
		return nil, fmt.Errorf("listening as an attacker: %w", err)
	}
	t := &Trap{Host: "127.0.0.1", listener: l}
	if addr, ok := l.Addr().(*net.TCPAddr); ok {
		t.Port = addr.Port
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go t.keep(conn)
		}
	}()
	return t, nil
}

// Close stops listening.
func (t *Trap) Close() { _ = t.listener.Close() }

// Address is host:port.
func (t *Trap) Address() string { return net.JoinHostPort(t.Host, strconv.Itoa(t.Port)) }

// Visits returns how many connections were made since the last call, and what
// was sent.
func (t *Trap) Visits() (connections int, sent []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	connections, sent = t.visits, t.got
	t.visits, t.got = 0, nil
	return connections, sent
}

func (t *Trap) keep(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	t.mu.Lock()
	t.visits++
	t.mu.Unlock()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // TCP has deadlines
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		t.mu.Lock()
		t.got = append(t.got, buffer[:n]...)
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}
