package chaos

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/pgtest"
)

// wire is how the proxy shows itself, with the server's own certificate, so that
// clients verify it in full, and how it reaches the server.
type wire struct {
	server string
	inward *tls.Config
}

func newWire(c *pgtest.Cluster) (*wire, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.Dir, "server.crt"), filepath.Join(c.Dir, "server.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the server's certificate: %w", err)
	}
	return &wire{c.Primary.Address(), &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		CurvePreferences: []tls.CurveID{tls.X25519}}}, nil // the cheapest: there are thousands of handshakes
}

// proxy stands between the functions of one walk and the server. It takes the
// traffic apart into exchanges, everything up to ReadyForQuery (PostgreSQL
// documentation, "Message Flow"), and lets each go wrong.
type proxy struct {
	w        *walk
	wire     *wire
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	links map[*link]bool
	left  []leftOpen
}

// link is one connection of a client, and ours to the server.
type link struct {
	p      *proxy
	inv    *invocation // nil: nobody's whose calls are counted
	client net.Conn
	server net.Conn
	in     *bufio.Reader
	out    *bufio.Reader
	stored map[string]string // prepared statements by name
	within bool              // a transaction
	kept   bool              // the server has it still
}

// leftOpen is a connection that the server has, and its client hasn't any more.
type leftOpen struct {
	server net.Conn
	until  time.Time
}

// A server ends a transaction on which nothing happens by the session's
// idle_in_transaction_session_timeout, and finds out by TCP's keepalive that nobody
// is left on a connection. Whoever waits for such a transaction's lock gives up
// after lock_timeout, its default here; the walk waits a tenth of it.
const (
	idleLimit   = 15 * time.Second
	keepalive   = 10 * time.Minute
	lockTimeout = 3 * time.Second
)

func newProxy(ctx context.Context, w *walk, wire *wire) (*proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the database's proxy: %w", err)
	}
	p := &proxy{w: w, wire: wire, listener: listener, links: map[*link]bool{}}
	p.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l := &link{p: p, client: conn, inv: w.functions.speaking(), stored: map[string]string{}}
			p.mu.Lock()
			p.links[l] = true
			p.mu.Unlock()
			p.work.Go(l.serve)
		}
	})
	return p, nil
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) close() {
	_ = p.listener.Close() // ends Accept
	p.expire(time.Time{})
	p.cut(func(*link) bool { return true })
	p.work.Wait()
}

// cut ends connections as the end of a process does.
func (p *proxy) cut(which func(*link) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if which(l) {
			_ = l.client.Close() // either side's error shows that it is cut
			if l.server != nil && !l.kept {
				_ = l.server.Close()
			}
		}
	}
}

// leave keeps an invocation's connections open at the server, with their
// transactions and locks.
func (p *proxy) leave(inv *invocation, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.inv != inv || l.server == nil || l.kept {
			continue
		}
		l.kept = true
		until := now.Add(keepalive)
		if l.within {
			until = now.Add(idleLimit)
		}
		p.left = append(p.left, leftOpen{l.server, until})
	}
}

// expire ends what the server has found out by now; all of it at no time.
func (p *proxy) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = slices.DeleteFunc(p.left, func(l leftOpen) bool {
		over := now.IsZero() || !now.Before(l.until)
		if over {
			_ = l.server.Close() // nobody is there to hear of it
		}
		return over
	})
}

func (l *link) serve() {
	defer func() {
		_ = l.client.Close()
		l.p.mu.Lock()
		server, kept := l.server, l.kept
		delete(l.p.links, l)
		l.p.mu.Unlock()
		if server != nil && !kept {
			_ = server.Close()
		}
	}()
	if l.inv != nil && l.inv.dead.Load() {
		return
	}
	kind := l.at("connect")
	if kind == CrashBefore || kind == ResetBefore || kind == HangBefore {
		l.fail(kind)
		return
	}
	if err := l.open(); err != nil {
		return
	}
	for login := true; ; login = false {
		if !login {
			unit, name, err := l.question()
			if err != nil {
				return
			}
			if name == "" { // Terminate
				_, _ = l.server.Write(unit)
				return
			}
			if kind = l.at(name); kind == CrashBefore || kind == ResetBefore || kind == HangBefore {
				l.fail(kind)
				return
			}
			if kind == Zombie || kind == TurnedBack || kind == Cancelled {
				l.p.w.overtake(context.Background(), l.inv, kind)
			}
			if _, err := l.server.Write(unit); err != nil {
				return
			}
		}
		answer, changed, err := l.answer(login)
		if changed {
			l.p.w.consumers.look(context.Background(), "after a statement of "+l.who())
		}
		if kind == CrashAfter || kind == HalfOpen || kind == AnswerLost || kind == HangAfter {
			l.fail(kind)
			return
		}
		if _, werr := l.client.Write(answer); werr != nil || err != nil {
			return
		}
	}
}

func (l *link) who() string {
	if l.inv == nil {
		return "nobody"
	}
	return l.inv.function
}

func (l *link) at(name string) Kind {
	if l.inv == nil {
		return ""
	}
	return l.p.w.plan.at(l.inv.next(layerPostgres, name))
}

func (l *link) fail(kind Kind) {
	switch kind {
	case HalfOpen:
		l.p.leave(l.inv, l.p.w.aws.Clock.Now())
		_ = l.p.w.crash(l.inv)
	case CrashBefore, CrashAfter:
		_ = l.p.w.crash(l.inv)
	case HangBefore, HangAfter:
		_ = l.p.w.hang(l.inv)
	default: // the connection ends
	}
}

const (
	sslRequest    = 80877103
	cancelRequest = 80877102
)

// open carries out the TLS handshake and forwards the start-up message.
func (l *link) open() error {
	for {
		packet, err := startup(l.client)
		if err != nil {
			return err
		}
		switch binary.BigEndian.Uint32(packet[4:]) {
		case sslRequest:
			if _, err := l.client.Write([]byte{'S'}); err != nil {
				return err
			}
			l.p.mu.Lock()
			l.client = tls.Server(l.client, l.p.wire.inward)
			l.p.mu.Unlock()
			l.in = bufio.NewReader(l.client)
			continue
		case cancelRequest:
			return errors.New("cancellations aren't forwarded")
		}
		server, err := (&net.Dialer{Timeout: 10 * time.Second}).Dial("tcp", l.p.wire.server)
		if err != nil {
			return err
		}
		l.p.mu.Lock()
		l.server = server
		l.p.mu.Unlock()
		l.out = bufio.NewReader(server)
		_, err = server.Write(packet)
		return err
	}
}

// startup reads a message that has no type.
func startup(r io.Reader) ([]byte, error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 8 || n > 1<<16 {
		return nil, errors.New("a start-up message of impossible length")
	}
	packet := make([]byte, n)
	copy(packet, head)
	_, err := io.ReadFull(r, packet[8:])
	return packet, err
}

// message reads one message with its type.
func message(r io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 1<<26 {
		return nil, errors.New("a message of impossible length")
	}
	packet := make([]byte, n+1)
	copy(packet, head)
	_, err := io.ReadFull(r, packet[5:])
	return packet, err
}

// question reads what the client sends until it waits for an answer, and names
// it by its first words, which are never a value.
func (l *link) question() (unit []byte, name string, err error) {
	for {
		m, err := message(l.in)
		if err != nil {
			return nil, "", err
		}
		unit = append(unit, m...)
		switch m[0] {
		case 'X':
			return unit, "", nil
		case 'Q':
			return unit, words(m[5:]), nil
		case 'P':
			if statement, sql, ok := bytes.Cut(m[5:], []byte{0}); ok {
				name = "prepare " + words(sql)
				l.stored[string(statement)] = words(sql)
			}
		case 'B':
			_, rest, _ := bytes.Cut(m[5:], []byte{0}) // the portal
			statement, _, _ := bytes.Cut(rest, []byte{0})
			name = l.stored[string(statement)]
		case 'S':
			if name == "" {
				name = "sync"
			}
			return unit, name, nil
		}
	}
}

func words(sql []byte) string {
	text, _, _ := strings.Cut(string(sql), "\x00")
	first := strings.Fields(text)
	name := strings.Join(first[:min(2, len(first))], " ")
	if function, _, ok := strings.Cut(name, "("); ok {
		return function
	}
	return strings.TrimSuffix(name, ",")
}

// changes are the commands after which logins may be accepted or refused.
var changes = []string{"COMMIT", "ALTER ROLE", "CREATE ROLE", "DROP ROLE", "GRANT ROLE", "REVOKE ROLE"}

// answer reads what the server sends until it waits. While somebody logs in it
// passes the conversation on, all but its end.
func (l *link) answer(login bool) (whole []byte, changed bool, err error) {
	for {
		m, err := message(l.out)
		if err != nil {
			return whole, changed, err
		}
		whole = append(whole, m...)
		switch m[0] {
		case 'E':
			if bytes.Contains(m, []byte("C55P03\x00")) { // lock_not_available
				l.p.w.advance(lockTimeout)
			}
		case 'C':
			changed = changed || slices.Contains(changes, string(bytes.TrimRight(m[5:], "\x00")))
		case 'Z':
			l.p.mu.Lock()
			l.within = m[5] != 'I'
			l.p.mu.Unlock()
			return whole, changed && m[5] == 'I', nil
		case 'R': // the server waits for the client, but for AuthenticationOk and the last proof
			kind := binary.BigEndian.Uint32(m[5:])
			if !login || kind == 0 || kind == 12 {
				continue
			}
			if _, err := l.client.Write(whole); err != nil {
				return nil, false, err
			}
			whole = nil
			proof, err := message(l.in)
			if err != nil {
				return nil, false, err
			}
			if _, err := l.server.Write(proof); err != nil {
				return nil, false, err
			}
		}
	}
}
