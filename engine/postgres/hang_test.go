package postgres_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// mute stands before a server and falls silent: what a client sends still
// arrives, no answer comes back, and new clients get nothing at all. That is what
// a hung host, a lost route or a frozen process look like.
type mute struct {
	t        *testing.T
	listener net.Listener
	server   string

	mu      sync.Mutex
	left    int // answers until it falls silent; below 0: it never does
	silent  bool
	clients []net.Conn
	servers []net.Conn
}

func newMute(t *testing.T, server string) *mute {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mute{t: t, listener: l, server: server, left: -1}
	t.Cleanup(func() { _ = l.Close(); m.hangUp() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go m.serve(c)
		}
	}()
	return m
}

func (m *mute) address() (host string, port int) {
	a, _ := m.listener.Addr().(*net.TCPAddr)
	return "127.0.0.1", a.Port
}

func (m *mute) serve(client net.Conn) {
	m.mu.Lock()
	m.clients = append(m.clients, client)
	silent := m.silent
	m.mu.Unlock()
	if silent {
		return
	}
	server, err := net.Dial("tcp", m.server)
	if err != nil {
		_ = client.Close()
		return
	}
	m.mu.Lock()
	m.servers = append(m.servers, server)
	m.mu.Unlock()
	go func() { // to the server; the end of the client isn't told, as when a host dies
		b := make([]byte, 32<<10)
		for {
			n, err := client.Read(b)
			if n > 0 {
				_, _ = server.Write(b[:n])
			}
			if err != nil {
				if !m.isSilent() {
					_ = server.Close()
				}
				return
			}
		}
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := server.Read(b)
		if err != nil {
			if !m.isSilent() {
				_ = client.Close()
			}
			return
		}
		if m.speak() {
			_, _ = client.Write(b[:n])
		}
	}
}

// speak counts one answer, and reports whether it may pass.
func (m *mute) speak() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		m.silent = true
	}
	if m.left > 0 {
		m.left--
	}
	return !m.silent
}

func (m *mute) isSilent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.silent
}

func (m *mute) fallSilent() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = true
}

// after lets so many answers pass from now on.
func (m *mute) after(answers int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.silent = answers, false
}

// hangUp ends every connection, as the end of both hosts does.
func (m *mute) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range append(m.clients, m.servers...) {
		_ = c.Close()
	}
	m.clients, m.servers = nil, nil
}

// behind puts a world's primary behind a server that can fall silent.
func behind(t *testing.T, w *world) *mute {
	t.Helper()
	m := newMute(t, w.s.Primary.Address())
	host, port := m.address()
	w.set["hosts"] = []string{m.listener.Addr().String()}
	w.fields["host"], w.fields["port"] = host, port
	w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
	return m
}

// unlocked waits until nobody holds the lock of a login.
func (w *world) unlocked(root *pgx.Conn, identity string) {
	w.t.Helper()
	for w.ctx.Err() == nil {
		if ask(w.t, root, `SELECT count(*)::text FROM pg_locks l, hashtextextended('keyturn/' || $1, 0) h
			WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32 | l.objid::bigint) = h`, identity) == "0" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.t.Fatalf("somebody still holds the lock of %s", identity)
}

// A server that falls silent at any moment of any step: the step ends within its
// time, with a fault that asks to call again or as not done, and calling again
// comes to the same end as ever.
func TestAServerThatFallsSilent(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		m, root := behind(t, w), w.root("postgres")
		w.begin(version2)
		head, tail := w.change(version1, version2, 1), w.change(version1, version2, 2)
		w.set["connect_timeout"] = "250ms"
		impatient := w.change(version1, version2, 0).Policy
		try := func(name string, act step, patient rotation.Change) {
			t.Helper()
			c := patient
			c.Policy = impatient
			for answers := 0; answers < 150; answers += 1 + answers/2 {
				m.after(answers)
				ctx, cancel := context.WithTimeout(w.ctx, 400*time.Millisecond)
				begun := time.Now()
				res, err := act(w.engine, ctx, c)
				took, silent := time.Since(begun), m.isSilent()
				cancel()
				m.after(-1)
				m.hangUp()
				w.unlocked(root, w.app.User)
				switch {
				case took > 30*time.Second:
					t.Errorf("%s, silent after %d answers: it took %s", name, answers, took)
				case err != nil && fault.NameOf(err).Class() != fault.Retry:
					t.Errorf("%s, silent after %d answers: %v (%s)", name, answers, err, fault.NameOf(err))
				case err == nil && res.Outcome == rotation.Done && silent && name == "Drain":
					t.Errorf("%s, silent after %d answers: done", name, answers)
				}
				if !silent && err == nil {
					break
				}
			}
			w.until(act, patient, rotation.Done)
		}
		try("Create", rotation.Engine.Create, head)
		try("Set", rotation.Engine.Set, head)
		try("Test", rotation.Engine.Test, head)
		w.store.Finish(w.arn, version2)
		w.seen.add("web", w.clock.Now)
		try("Drain", rotation.Engine.Drain, tail)
		try("Disable", rotation.Engine.Disable, tail)
		if err := w.works(w.ctx, version1); err == nil {
			t.Error("the old login works after its disabling")
		}
		try("Enable", rotation.Engine.Enable, tail)
		if err := w.works(w.ctx, version1); err != nil {
			t.Errorf("the old login doesn't work again: %v", err)
		}
		w.until(rotation.Engine.Disable, tail, rotation.Done)
		try("Revoke", rotation.Engine.Revoke, tail)
		if err := w.works(w.ctx, version2); err != nil {
			t.Errorf("the new login: %v", err)
		}
	})
}

// A function that is killed or frozen in the middle of a transaction doesn't hang
// up: its host is gone. The server ends such a session by itself, long before TCP
// finds out, and the lock with it.
func TestTheLockOfAHostThatDiedIsFreed(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		m, root := behind(t, w), w.root("postgres")
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		c.Fence = func(context.Context) error {
			m.fallSilent()
			time.AfterFunc(300*time.Millisecond, cancel)
			return nil
		}
		if _, err := w.engine.Set(ctx, c); !fault.Is(err, fault.Unavailable) {
			t.Fatalf("got %v", err)
		}
		w.unlocked(root, w.app.User)
		m.after(-1)
		w.until(rotation.Engine.Set, w.change(version1, version2, 2), rotation.Done)
	})
}

// An act that fails while the server is silent doesn't wait for it to answer the
// ROLLBACK, nor to say goodbye.
func TestAFailureDoesNotWaitForASilentServer(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		m := behind(t, w)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		c.Fence = func(context.Context) error {
			m.fallSilent()
			return fault.New(fault.Superseded, "the labels have moved")
		}
		ended := make(chan error, 1)
		go func() {
			_, err := w.engine.Set(w.ctx, c)
			ended <- err
		}()
		select {
		case err := <-ended:
			if !fault.Is(err, fault.Superseded) {
				t.Errorf("got %v", err)
			}
		case <-time.After(40 * time.Second):
			m.hangUp()
			t.Errorf("it waits for an answer to ROLLBACK: %v", <-ended)
		}
	})
}
