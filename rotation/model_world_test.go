package rotation_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// model is a secret in a world in which every call of everybody is an event of
// its own, and the test draws what happens next.
type model struct {
	*house
	rt        rapid.TB
	policy    rotation.Policy
	log       *slog.Logger
	db        *database
	consumers []*consumer
	reports   []report
	silent    map[string]time.Time // until then a party tells nobody what it uses
	ledger    *audittest.Memory
	trail     *audit.Journal
	processes []*process
	inFlight  map[string]*process // by run
	sm        rotator
	versions  int // made so far
	passwords int
	byHand    map[string]bool // versions that a person has made current
	broken    string
	zoned     bool // functions that reach targets reach no Step Functions

	emergencies []*emergency
	stolen      map[credential]bool // what an emergency has declared stolen
	hasty       map[credential]bool // what stood in the way of replacing that
	cut         map[credential]bool // what was stolen and refused before there was another
	late        time.Time           // until then a function may refuse what a person has made current
	looks       map[string]*looks   // at the sessions, by run
	held        []string            // versions that were ever disabled
	hits        *coverage
}

// rotator is Secrets Manager's own rotation, as its documentation tells it.
type rotator struct {
	token     string          // of the attempt that is going on
	at        int             // its step
	p         *process        // that step's invocation
	abandoned map[string]bool // given up for good, unless asked for again
	leftover  string          // the version that AWSPENDING is still to be taken off
}

var fourSteps = []rotation.Step{rotation.StepCreate, rotation.StepSet, rotation.StepTest, rotation.StepFinish}

// slowest are parties of which the slowest decides by the age of what it has
// cached, by how long it stays away, or not at all: then the function limit does.
func slowest() [][]rotation.Party {
	return [][]rotation.Party{
		{{Name: "web", CacheAge: 3 * time.Minute}, {Name: "job", Cadence: time.Minute}},
		{{Name: "web", CacheAge: time.Minute}, {Name: "job", Cadence: 3 * time.Minute}},
		{{Name: "web"}, {Name: "job", Cadence: 30 * time.Second}},
	}
}

func newModel(rt rapid.TB, driver rotation.Driver, pair, keepPending bool, parties []rotation.Party) *model {
	store := rotationtest.NewStore()
	store.Driver = driver
	m := &model{
		rt: rt, log: slog.New(slog.DiscardHandler), ledger: &audittest.Memory{},
		house: newHouse(&world{
			store: store, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
			runs: &runs{runs: map[string]rotation.Run{}, in: map[string]rotation.Input{}},
		}),
		policy: rotation.Policy{
			Secret: arn, Kind: "modelled", Driver: driver, Poll: 30 * time.Second, QuietPolls: 3,
			Hold: 30 * time.Second, HeadLimit: 10 * time.Minute, FunctionLimit: time.Minute, Hash: "h",
			Emergency: 30 * time.Second, Parties: parties,
		},
		db:       &database{pair: pair, roles: map[string]*role{}},
		inFlight: map[string]*process{}, byHand: map[string]bool{},
		stolen: map[credential]bool{}, hasty: map[credential]bool{}, silent: map[string]time.Time{}, cut: map[credential]bool{}, looks: map[string]*looks{},
		sm: rotator{abandoned: map[string]bool{}},
	}
	m.keepPending = keepPending
	m.trail = &audit.Journal{Ledger: m.ledger, Actor: "keyturn", ActorType: audit.Controller, Log: m.log}
	first := credential{"app", m.password()}
	m.db.roles[first.login] = &role{password: first.password, open: true, byHand: true}
	store.Add(arn, m.newVersion(), first.String())
	m.consumers = consumersOf(m.policy.Parties)
	for _, c := range m.consumers {
		m.use(c)
		if c.habit == hoards {
			c.session = ""
		}
	}
	return m
}

// newVersion is a version id in which short finds its number again.
func (m *model) newVersion() string {
	m.versions++
	return fmt.Sprintf("%08d-0000-4000-8000-%012d", m.versions, m.versions)
}

func (m *model) password() string {
	m.passwords++
	return fmt.Sprintf("pw%d", m.passwords)
}

// credential is what a version holds; without a value it is empty.
func (m *model) credential(version string) credential {
	v, err := m.store.Value(context.Background(), arn, version)
	if err != nil {
		return credential{}
	}
	return parse(v.Reveal())
}

// short writes a version's number for its id, and labels and runs likewise.
func (m *model) short(name string) string {
	name = strings.TrimPrefix(name, rotation.RunName(arn, "", "")[:17])
	name = strings.TrimPrefix(strings.TrimPrefix(name, "KEYTURN_"), "AWS")
	for n := m.versions; n > 0; n-- {
		name = strings.ReplaceAll(name, fmt.Sprintf("%08d-0000-4000-8000-%012d", n, n), fmt.Sprint(n))
	}
	return name
}

// describe writes the labels and the roles for a person.
func (m *model) describe() string {
	var lines []string
	v := m.store.Labels(arn)
	for _, id := range slices.Sorted(maps.Keys(v)) {
		var labels []string
		for _, l := range v[id] {
			labels = append(labels, m.short(string(l)))
		}
		lines = append(lines, m.short(id)+"="+m.credential(id).login+":"+strings.Join(labels, "+"))
	}
	for _, name := range slices.Sorted(maps.Keys(m.db.roles)) {
		r := m.db.roles[name]
		lines = append(lines, fmt.Sprintf("%s{open %v, of %s, rank %d}", name, r.open && r.password != "", m.short(r.token), r.rank))
	}
	return strings.Join(lines, "  ")
}

// steal moves a label as PutSecretValue does: from whoever has it.
func (m *model) steal(l rotation.Label, version string) {
	m.store.Edit(arn, func(d *rotation.Description) {
		for id, labels := range d.Versions {
			d.Versions[id] = slices.DeleteFunc(slices.Clone(labels), func(x rotation.Label) bool { return x == l })
		}
		d.Versions[version] = append(d.Versions[version], l)
	})
}

// rotateSecret asks Secrets Manager for a rotation, or to try one again.
func (m *model) rotateSecret(ctx context.Context, secret, token string) error {
	err := m.store.Rotate(ctx, secret, token)
	if err == nil || fault.Is(err, fault.RotationInProgress) {
		delete(m.sm.abandoned, m.store.Labels(arn).Holder(rotation.Pending))
	}
	return err
}

// secretsManager makes its next step, if it has one to make.
func (m *model) secretsManager(calls int) bool {
	v := m.store.Labels(arn)
	pending := v.Holder(rotation.Pending)
	switch {
	case m.store.Driver != rotation.DriverSecretsManager || m.sm.p != nil || m.cancelled():
		return false
	case m.sm.token != "":
	case pending == "" || pending == v.Holder(rotation.Current) || m.sm.abandoned[pending]:
		return false
	default:
		m.sm.token, m.sm.at = pending, 0
	}
	req := rotation.Request{Secret: arn, Token: m.sm.token, Direction: rotation.Head, ByStore: true}
	step := fourSteps[m.sm.at]
	p := m.start("Secrets Manager "+string(step)+" "+m.short(req.Token), call(step, req))
	m.sm.p = p
	p.crashed = func() { m.sm.p, m.sm.token = nil, "" }
	p.answered = func(res rotation.Result, err error) {
		m.sm.p = nil
		if m.sm.at++; err != nil || res.Outcome != rotation.Done {
			m.sm.token = "" // it begins again
		} else if m.sm.at == len(fourSteps) {
			m.sm.leftover, m.sm.token = req.Token, ""
		}
	}
	m.letGo(p, calls)
	return true
}

func (m *model) cancelled() (off bool) {
	m.store.Edit(arn, func(d *rotation.Description) { off = d.RotationEnabled != nil && !*d.RotationEnabled })
	return off && m.store.Driver == rotation.DriverSecretsManager
}

// tidy takes AWSPENDING off after a rotation, some time later or never.
func (m *model) tidy() bool {
	done := m.sm.leftover
	if m.sm.leftover = ""; done == "" || m.keepPending {
		return false
	}
	_ = m.store.Detach(context.Background(), arn, rotation.Pending, done) // always succeeds
	return true
}

// abandon is what Secrets Manager does when somebody sets a value beside its
// rotation. The function that is at work then goes on.
func (m *model) abandon() {
	v := m.store.Labels(arn)
	token := m.sm.token
	if p := v.Holder(rotation.Pending); token == "" && p != "" && p != v.Holder(rotation.Current) && !v.Has(p, rotation.Previous) {
		token = p
	}
	if m.store.Driver != rotation.DriverSecretsManager || token == "" {
		return
	}
	m.sm.abandoned[token] = true
	m.hit("Secrets Manager abandons a rotation")
	if p := m.sm.p; p != nil && strings.HasPrefix(p.at, "Put ") {
		m.hit("Secrets Manager abandons a rotation between guard and put")
	}
	m.forsake()
	_ = m.store.Detach(context.Background(), arn, rotation.Pending, token) // always succeeds
}

// forsake ends Secrets Manager's attempt, but not its function.
func (m *model) forsake() {
	if m.sm.p != nil {
		m.sm.p.disown()
	}
	m.sm.p, m.sm.token = nil, ""
}

func call(step rotation.Step, req rotation.Request) work {
	return func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
		steps := map[rotation.Step]func(context.Context, rotation.Request) (rotation.Result, error){
			rotation.StepCreate: r.Create, rotation.StepSet: r.Set, rotation.StepTest: r.Test, rotation.StepFinish: r.Finish,
			rotation.StepAdopt: r.Adopt, rotation.StepDrain: r.Drain, rotation.StepDisable: r.Disable, rotation.StepRevoke: r.Revoke,
			rotation.StepRollback: r.Rollback,
		}
		if step != rotation.StepRollback || req.Direction == rotation.Back { // else a controller does it
			atTarget(r)
		}
		return steps[step](ctx, req)
	}
}

// atTarget makes a function one that reaches targets: in a zone those can't start
// or look up runs, and leave that to the watchdogs.
func atTarget(r *rotation.Rotator) {
	if runs, ok := r.Runs.(modelRuns); ok && runs.m.zoned {
		r.Runs = nil
	}
}

// running lists the executions that aren't over, in a fixed order.
func (m *model) running() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(m.runs.runs)) {
		if m.runs.runs[name].Status == rotation.RunRunning {
			names = append(names, name)
		}
	}
	return names
}

// drive lets one execution make its next step, if it isn't waiting.
func (m *model) drive(name string, calls int) bool {
	in := m.runs.in[name]
	x := m.execution(name, in)
	if m.inFlight[name] != nil || m.now.Before(x.until) {
		return false
	}
	p := m.start(m.short(name)+" "+string(x.at), call(x.at, x.request(in)))
	m.inFlight[name] = p
	p.answered = func(res rotation.Result, err error) {
		delete(m.inFlight, name)
		if x.at == rotation.StepRevoke && res.Outcome == rotation.Reopened {
			m.hit("a run that wakes from its hold drains anew")
		}
		m.answered(name, in, x, res, err)
	}
	p.crashed = func() { m.again(name) }
	m.letGo(p, calls)
	return true
}

// again is what Retry does when Lambda can't say how a call has ended.
func (m *model) again(name string) {
	const attempts = 5
	delete(m.inFlight, name)
	x, in := m.executions[name], m.runs.in[name]
	if x.tries++; x.tries <= attempts {
		return
	}
	const cause = `{"Error":"Lambda.Unknown"}`
	if x.tries = 0; in.Direction == rotation.Head && x.at != rotation.StepRollback {
		x.at, x.cause = rotation.StepRollback, cause
		return
	}
	m.runs.end(name, rotation.RunFailed, m.now, cause)
}

// stop ends an execution from outside; what its function does goes on.
func (m *model) stop(name string) {
	if p := m.inFlight[name]; p != nil {
		m.hit("a run is stopped while its function runs on")
		p.disown()
		delete(m.inFlight, name)
	}
	m.runs.end(name, rotation.RunAborted, m.now, "")
}

// owner finds the execution that waits for a process.
func (m *model) owner(p *process) string {
	for _, name := range slices.Sorted(maps.Keys(m.inFlight)) {
		if m.inFlight[name] == p {
			return name
		}
	}
	return ""
}
