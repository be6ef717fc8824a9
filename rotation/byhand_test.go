package rotation_test

import (
	"fmt"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// hand is something that a person does to the labels beside a rotation, if there
// is anything to do it to.
type hand struct {
	name string
	act  func(*house)
}

func (h *house) login(version string) string { return h.target.login(h.t.Context(), version) }

func hands() []hand {
	return []hand{
		{"stores another login", func(h *house) {
			h.target.logins["login-3"] = "accepted"
			h.store.PutByHand(arn, v3, "login-3")
		}},
		{"stores the current login again", func(h *house) {
			h.store.PutByHand(arn, v3, h.login(h.store.Labels(arn).Holder(rotation.Current)))
		}},
		{"stores another login, which Keyturn sees, then a third", func(h *house) {
			h.target.logins["login-3"], h.target.logins["login-4"] = "accepted", "accepted"
			h.store.PutByHand(arn, v3, "login-3")
			h.must(h.store.Attach(h.t.Context(), arn, rotation.Live(v3), v3))
			h.store.PutByHand(arn, "44444444-4444-4444-8444-444444444444", "login-4")
		}},
		{"moves AWSCURRENT back", func(h *house) {
			v := h.store.Labels(arn)
			old, current := v.Holder(rotation.Previous), v.Holder(rotation.Current)
			if old == "" || h.target.logins[h.login(old)] == "" {
				return
			}
			// Moved to a login that is disabled: refused until Keyturn sees it.
			h.excused = h.target.logins[h.login(old)] == "refused"
			h.must(h.store.Move(h.t.Context(), arn, rotation.Current, old, current))
		}},
		{"moves AWSCURRENT on", func(h *house) {
			v := h.store.Labels(arn)
			next, current := v.Holder(rotation.Pending), v.Holder(rotation.Current)
			if next == "" || next == current || h.target.logins[h.login(next)] != "accepted" {
				return
			}
			h.must(h.store.Move(h.t.Context(), arn, rotation.Current, next, current))
		}},
		{"takes AWSPENDING off", func(h *house) {
			p := h.store.Labels(arn).Holder(rotation.Pending)
			if p == "" {
				return
			}
			h.must(h.store.Detach(h.t.Context(), arn, rotation.Pending, p))
		}},
		{"takes AWSPENDING off and stores another login", func(h *house) {
			if p := h.store.Labels(arn).Holder(rotation.Pending); p != "" {
				h.must(h.store.Detach(h.t.Context(), arn, rotation.Pending, p))
			}
			h.target.logins["login-3"] = "accepted"
			h.store.PutByHand(arn, v3, "login-3")
		}},
	}
}

// Whatever a person does to the labels, before whichever step, and whichever call
// of the store fails beside it (each n-th, beginning elsewhere at each step): in
// the end one login is alone, and it is the one that AWSCURRENT names.
func TestAHandMayMeddleAnywhere(t *testing.T) {
	t.Parallel()
	const stride = 5
	for _, i := range interruptions() {
		if i.rollbackAt != "" {
			continue
		}
		for _, m := range hands() {
			t.Run(m.name+", "+i.name, func(t *testing.T) {
				t.Parallel()
				clean := func(*rotationtest.Store) {}
				most, _ := i.meddle(t, -1, m, clean)
				for n := range most {
					_, calls := i.meddle(t, n, m, clean)
					for call := n % stride; call < calls; call += stride {
						t.Run(fmt.Sprintf("before step %d, call %d isn't made", n, call), func(t *testing.T) {
							i.meddle(t, n, m, func(s *rotationtest.Store) { s.Fail = from(call, 1) })
						})
						t.Run(fmt.Sprintf("before step %d, the answer of call %d is lost", n, call), func(t *testing.T) {
							i.meddle(t, n, m, func(s *rotationtest.Store) { s.FailAfter = from(call, 1) })
						})
					}
				}
			})
		}
	}
}

// meddle lets a person act once before the n-th step of anybody.
func (i interruption) meddle(t *testing.T, n int, m hand, fail func(*rotationtest.Store)) (steps, calls int) {
	t.Helper()
	w := newWorld(t, i.driver)
	h := newHouse(w)
	h.keepPending = i.keepPending
	w.must(w.store.Attach(t.Context(), arn, rotation.Live(v1), v1)) // by an earlier rotation
	h.before = func() {
		if steps++; steps-1 == n {
			before, after := w.store.Fail, w.store.FailAfter
			w.store.Fail, w.store.FailAfter = nil, nil
			m.act(h)
			w.store.Fail, w.store.FailAfter = before, after
		}
	}
	seen := len(w.store.Calls())
	fail(w.store)
	_, err := h.StartHead(t.Context(), arn, v2)
	w.must(err)
	h.settle()
	h.settled(h.login(w.store.Labels(arn).Holder(rotation.Current)))
	return steps, len(w.store.Calls()) - seen
}

// A credential that is destroyed can't be brought back: that run is for a person.
func TestCurrentMovedBackToADestroyedLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	_, err := w.Disable(t.Context(), forward(v2))
	w.must(err)
	delete(w.target.logins, "login-1")
	w.must(w.store.Move(t.Context(), arn, rotation.Current, v1, v2))
	_, err = w.Adopt(t.Context(), forward(v1))
	wantFault(t, err, fault.TooLate)
	if fault.HintOf(err) == "" {
		t.Error("no hint")
	}
	w.must(w.store.Move(t.Context(), arn, rotation.Current, v2, v1)) // what the hint says
	w.must(w.tail(v2, rotation.Forward))
	w.wantLabels("1:PREVIOUS 2:CURRENT+LIVE")
}

// What was put by hand is tracked from the end of its drain on.
func TestPutByHandWhileStable(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		h := newHouse(w)
		w.must(w.rotate(v2))
		h.settle()
		w.putByHand(v3, "login-3")
		h.settle()
		h.settled("login-3")
		w.target.logins["login-4"] = "accepted"
		w.store.PutByHand(arn, "44444444-4444-4444-8444-444444444444", "login-4")
		h.settle()
		h.settled("login-4")
	}
}

// A value that was stored by mistake and mended is nothing that could be retired.
func TestPutOfAMistakeIsForgotten(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		h := newHouse(w)
		w.must(w.rotate(v2))
		h.settle()
		w.target.mistake = "{"
		w.store.PutByHand(arn, v3, "{")
		h.excused = true
		h.tick()
		w.store.PutByHand(arn, "44444444-4444-4444-8444-444444444444", "login-2")
		h.settle()
		h.settled("login-2")
	}
}

// A machine that died between its put and its claim left a version behind.
func TestHeadThatDiedBeforeItsClaimIsTakenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	h := newHouse(w)
	change := rotation.Change{Secret: arn, To: v2, Policy: rotation.Policy{Driver: rotation.DriverMachine}}
	w.must(w.store.Put(t.Context(), change, rotation.NewValue("login-2")))
	h.settle()
	h.settled("login-2")
}
