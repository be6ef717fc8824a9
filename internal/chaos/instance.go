package chaos

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// instancePatience is how long party/webhook waits for an answer.
const instancePatience = 5 * time.Second

// ServeHTTP is the instance: told to follow, it reads AWSCURRENT and connects.
// What goes wrong with a request does so for the function that asks.
func (c *consumers) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	inv, kind := c.w.functions.speaking(), Kind("")
	if inv != nil {
		kind = c.w.plan.at(inv.next(layerInstance, req.Method))
	}
	if c.w.aws.Clock.Now().Before(c.back) {
		kind = ServerError
	}
	switch kind {
	case CrashBefore:
		_ = c.w.crash(inv)
		panic(http.ErrAbortHandler) // ends the connection
	case HangBefore:
		c.silence(inv)
	case ResetBefore:
		panic(http.ErrAbortHandler)
	case Throttle:
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case ServerError:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case Zombie, TurnedBack, Cancelled:
		c.w.overtake(context.WithoutCancel(req.Context()), inv, kind)
	}
	answer, status := c.answer(req)
	switch kind {
	case CrashAfter:
		_ = c.w.crash(inv)
		panic(http.ErrAbortHandler)
	case HangAfter:
		c.silence(inv)
	case AnswerLost:
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	if answer != nil {
		_ = json.NewEncoder(w).Encode(answer) // the asker sees what it gets
	}
}

// silence is a request that is never answered, until whoever asks gives up.
func (c *consumers) silence(inv *invocation) {
	c.w.pass(inv, c.w.aws.Clock.Now().Add(instancePatience))
	panic(http.ErrAbortHandler)
}

func (c *consumers) answer(req *http.Request) (body any, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.comeBack(context.WithoutCancel(req.Context()))
	if req.Method != http.MethodPost {
		return map[string]any{"version": c.version, "done": true}, http.StatusOK
	}
	if err := c.follow(context.WithoutCancel(req.Context())); err != nil {
		c.w.broken("the instance can't follow: %v", err)
		return nil, http.StatusInternalServerError
	}
	return nil, http.StatusAccepted
}

// instance is what holds for a party that the policy registers, however long it
// takes to follow: the login that it uses works, and nobody ends its session. An
// emergency doesn't wait for it.
func (c *consumers) instance(ctx context.Context, when string) {
	if c.version == "" || c.w.scene.entry.stolen {
		return
	}
	if err := c.login(ctx, c.known[c.version]); err != nil {
		c.w.broken("%s login %s (version %s), which the instance uses, is refused: %v", when, c.known[c.version].Username, c.version, err)
	}
	if c.conn == nil { // nobody asks anything of it
		return
	}
	if err := c.conn.Ping(ctx); err != nil {
		c.w.broken("%s the session of the instance is over: %v", when, err)
	}
}

// away makes the instance deaf for a while. It holds no session then, so that
// nothing at the server shows which login it will use.
func (c *consumers) away(ctx context.Context, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back = until
	_ = c.conn.Close(ctx) // it is there from the beginning
	c.conn = nil
}

// comeBack is the first thing that the instance does when it answers again: it
// works on with what it has. After an emergency it has to be told first.
func (c *consumers) comeBack(ctx context.Context) {
	if c.conn != nil {
		return
	}
	conn, err := c.dial(ctx, c.known[c.version], instanceName)
	if err == nil {
		c.conn = conn
	} else if !c.w.scene.entry.stolen {
		c.w.broken("the instance comes back, and login %s is refused: %v", c.known[c.version].Username, err)
	}
}

// followed is what holds at the end: nobody is left on another version.
func (c *consumers) followed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version != c.current && !c.w.scene.entry.stolen {
		c.w.broken("the instance uses version %s, and %s is current", c.version, c.current)
	}
}

func (c *consumers) follow(ctx context.Context) error {
	if err := c.read(ctx); err != nil {
		return err
	}
	conn, err := c.dial(ctx, c.known[c.current], instanceName)
	if err != nil {
		return err
	}
	if c.conn != nil {
		_ = c.conn.Close(ctx) // the old session; the new one is there
	}
	c.conn, c.version = conn, c.current
	return nil
}
