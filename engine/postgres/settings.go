package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/strictjson"
)

// Mode says where a new version's login comes from.
type Mode string

const (
	// Fresh makes a new login for each version and drops it at its end.
	Fresh Mode = "fresh"
	// Pair alternates between a login and its clone, as AWS's samples do.
	Pair Mode = "pair"
)

// AdoptRename moves the identity away from a login whose name has to stay.
const AdoptRename = "rename"

// Duration is written as in "3s" or "1m30s".
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errors.New(`must be a duration such as "3s"`)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed < 0 {
		return errors.New(`must be a duration such as "3s"`)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// PoolerSettings is a PgBouncer that hides consumers from the database.
type PoolerSettings struct {
	// Address is host:port.
	Address string `json:"address"`
	// Admin is the ARN of the secret with the console's login.
	Admin string `json:"admin"`
	// Databases are served to the application; at least one.
	Databases []string `json:"databases"`
}

// LoginLogFiles are server logs by node; the key "" stands for the primary.
// In JSON one path means the primary's.
type LoginLogFiles map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (f *LoginLogFiles) UnmarshalJSON(raw []byte) error {
	var path *string
	if json.Unmarshal(raw, &path) == nil {
		if path == nil {
			return nil
		}
		*f = LoginLogFiles{"": *path}
		return nil
	}
	var files map[string]string
	if err := json.Unmarshal(raw, &files); err != nil {
		return errors.New("must be a path, or an object of paths by host:port")
	}
	*f = files
	return nil
}

// Settings is what a policy says about one PostgreSQL secret. Hosts and Admin
// are required.
type Settings struct {
	Mode Mode `json:"mode"` // default fresh
	// Adopt is "" or "rename"; Owner then is the identity's new name.
	Adopt string `json:"adopt"`
	Owner string `json:"owner"`
	// Hosts are the addresses (host:port) that a secret may name.
	Hosts []string `json:"hosts"`
	// Replicas are further nodes (host:port): tested, drained and read back too.
	Replicas []string         `json:"replicas"`
	Poolers  []PoolerSettings `json:"poolers"`
	// Admin is the ARN of the admin login's secret, the only one that is used.
	Admin          string `json:"admin"`
	AllowPlaintext bool   `json:"allow_plaintext"`
	// RootCAFile holds the authorities that servers are verified by; empty means
	// the system's.
	RootCAFile string `json:"root_ca_file"`
	// Identity asserts whose rights every login has; empty means: found out.
	Identity    string        `json:"identity"`
	CloneSuffix string        `json:"clone_suffix"` // default _clone
	LoginLog    LoginLogFiles `json:"login_log"`
	// LogGroups are the CloudWatch log groups of the nodes' logs: they tell of who
	// tries a login that is refused already.
	LogGroups        []string `json:"log_groups"`
	ConnectTimeout   Duration `json:"connect_timeout"`   // default 5s
	LockTimeout      Duration `json:"lock_timeout"`      // default 3s
	StatementTimeout Duration `json:"statement_timeout"` // default 10s
	// PreparedGrace is how long a prepared transaction of the identity may stay
	// open before it counts as forgotten; default 1m. Members can finish it.
	PreparedGrace Duration `json:"prepared_grace"`
}

// Reads lists the ARNs of the secrets, other than the rotated one, that an engine
// with these settings reads.
func (s Settings) Reads() []string {
	arns := []string{s.Admin}
	for _, p := range s.Poolers {
		arns = append(arns, p.Admin)
	}
	slices.Sort(arns)
	return slices.Compact(arns)
}

// Files lists the paths of the files that lie beside the policy.
func (s Settings) Files() []string {
	if s.RootCAFile == "" {
		return nil
	}
	return []string{s.RootCAFile}
}

// ParseSettings decodes a policy's settings strictly and validates them. It
// returns every complaint, joined, as fault.InvalidInput.
func ParseSettings(raw json.RawMessage) (Settings, error) {
	s := Settings{
		Mode: Fresh, CloneSuffix: "_clone", ConnectTimeout: Duration(5 * time.Second),
		LockTimeout: Duration(3 * time.Second), StatementTimeout: Duration(10 * time.Second),
		PreparedGrace: Duration(time.Minute),
	}
	targets := map[string]any{
		"mode": &s.Mode, "adopt": &s.Adopt, "owner": &s.Owner, "hosts": &s.Hosts, "replicas": &s.Replicas,
		"poolers": &s.Poolers, "admin": &s.Admin, "allow_plaintext": &s.AllowPlaintext,
		"root_ca_file": &s.RootCAFile, "identity": &s.Identity, "clone_suffix": &s.CloneSuffix,
		"login_log": &s.LoginLog, "log_groups": &s.LogGroups, "connect_timeout": &s.ConnectTimeout, "lock_timeout": &s.LockTimeout,
		"statement_timeout": &s.StatementTimeout, "prepared_grace": &s.PreparedGrace,
	}
	var fields map[string]json.RawMessage
	if err := strictjson.Decode(raw, &fields); err != nil {
		return s, fault.New(fault.InvalidInput, "postgres settings can't be read: %s", err).
			WithHint("hosts and admin are required")
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		target, ok := targets[name]
		if !ok {
			errs = append(errs, fmt.Errorf("setting %q is unknown; there are %s", name, strings.Join(slices.Sorted(maps.Keys(targets)), ", ")))
			continue
		}
		if err := strictjson.Decode(fields[name], target); err != nil {
			errs = append(errs, fmt.Errorf("setting %q: %w", name, err))
		}
	}
	errs = append(errs, s.validate()...)
	for i, h := range s.Hosts {
		s.Hosts[i] = strings.ToLower(h)
	}
	for i, h := range s.Replicas {
		s.Replicas[i] = strings.ToLower(h)
	}
	for i := range s.Poolers {
		s.Poolers[i].Address = strings.ToLower(s.Poolers[i].Address)
	}
	return s, fault.Wrap(fault.InvalidInput, errors.Join(errs...), "postgres settings")
}

// mostNodes bounds what a step visits one after the other, and what a drain notes
// of each in its cursor.
const mostNodes = 50

func (s *Settings) validate() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Mode != Fresh && s.Mode != Pair {
		add("setting \"mode\" must be fresh or pair, not %q", s.Mode)
	}
	switch {
	case s.Adopt != "" && s.Adopt != AdoptRename:
		add("setting \"adopt\" must be rename or left out, not %q", s.Adopt)
	case s.Adopt == AdoptRename && s.Mode == Pair:
		add("setting \"adopt\": rename needs mode fresh")
	case s.Adopt == AdoptRename && s.Owner == "":
		add("setting \"owner\" is missing: the identity's name after the rename")
	case s.Adopt == "" && s.Owner != "":
		add("setting \"owner\" has no meaning without adopt: rename")
	}
	if len(s.Hosts) == 0 {
		add("setting \"hosts\" is missing: the host:port addresses that the secret may name")
	}
	if s.Admin == "" {
		add("setting \"admin\" is missing: the ARN of the admin login's secret")
	}
	for name, list := range map[string][]string{"hosts": s.Hosts, "replicas": s.Replicas} {
		for _, a := range list {
			if err := checkAddress(a); err != nil {
				add("setting %q: %w", name, err)
			}
		}
	}
	for _, p := range s.Poolers {
		if err := checkAddress(p.Address); err != nil {
			add("setting \"poolers\": %w", err)
		}
		if p.Admin == "" {
			add("setting \"poolers\": %s needs admin, the ARN of its console's login: its clients can't be seen otherwise", p.Address)
		}
		if len(p.Databases) == 0 {
			add("setting \"poolers\": %s needs at least one of its databases", p.Address)
		}
	}
	if n := len(s.Replicas) + len(s.Poolers); n > mostNodes {
		add("settings \"replicas\" and \"poolers\" name %d addresses: at most %d fit into a step's time", n, mostNodes)
	}
	return slices.Concat(errs, s.checkNames(), s.checkLogGroups(), s.checkTimes(), s.checkProxy())
}

// checkNames refuses what PostgreSQL would cut, and what quoting would lose.
func (s *Settings) checkNames() []error {
	var errs []error
	for _, n := range []struct {
		name, value string
		most        int
	}{{"owner", s.Owner, maxName}, {"identity", s.Identity, maxName}, {"clone_suffix", s.CloneSuffix, 20}} {
		if len(n.value) > n.most {
			errs = append(errs, fmt.Errorf("setting %q is longer than %d bytes", n.name, n.most))
		}
		if strings.ContainsRune(n.value, 0) {
			errs = append(errs, fmt.Errorf("setting %q holds a zero byte", n.name))
		}
	}
	if s.CloneSuffix == "" {
		errs = append(errs, errors.New("setting \"clone_suffix\" must have 1 to 20 bytes"))
	}
	return errs
}

// logGroup is a name that CloudWatch Logs takes (API reference, CreateLogGroup).
var logGroup = regexp.MustCompile(`^[A-Za-z0-9_/.#-]{1,512}$`)

func (s *Settings) checkLogGroups() []error {
	var errs []error
	for i, name := range s.LogGroups {
		if !logGroup.MatchString(name) {
			errs = append(errs, fmt.Errorf("setting \"log_groups\": %q is no name of a log group, as /aws/rds/instance/NAME/postgresql is", name))
		}
		if slices.Contains(s.LogGroups[:i], name) {
			errs = append(errs, fmt.Errorf("setting \"log_groups\" lists %s twice", name))
		}
	}
	if n := len(s.LogGroups); n > mostNodes {
		errs = append(errs, fmt.Errorf("setting \"log_groups\" lists %d groups, at most %d", n, mostNodes))
	}
	return errs
}

// mostTime is Lambda's own: nothing waits longer.
const mostTime = Duration(15 * time.Minute)

func (s *Settings) checkTimes() []error {
	var errs []error
	for _, t := range []struct {
		name  string
		value Duration
	}{{"connect_timeout", s.ConnectTimeout}, {"lock_timeout", s.LockTimeout}, {"statement_timeout", s.StatementTimeout}} {
		if t.value < Duration(time.Millisecond) || t.value > mostTime {
			errs = append(errs, fmt.Errorf("setting %q must be from 1ms to 15m", t.name))
		}
	}
	return errs
}

// checkProxy refuses what RDS Proxy can't carry: it knows AWSCURRENT only.
func (s *Settings) checkProxy() []error {
	var errs []error
	for _, h := range s.Hosts {
		if strings.Contains(h, ".proxy-") && strings.Contains(h, ".rds.amazonaws.com") {
			errs = append(errs, fmt.Errorf("setting \"hosts\": %s is an RDS Proxy, which accepts only the current version; name the cluster itself", h))
		}
	}
	return errs
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("%q must be host:port", address)
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		return fmt.Errorf("%q must name a host in letters, digits, dots and hyphens (a name in another script: its xn-- form), or an IP address", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
		return fmt.Errorf("%q must end in a port from 1 to 65535", address)
	}
	return nil
}
