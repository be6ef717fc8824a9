package policy

import (
	"bytes"
	"fmt"
	"net/url"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

const (
	// maxFunctionLimit is what Lambda allows (AWS Lambda developer guide, quotas).
	maxFunctionLimit = Duration(15 * time.Minute)
	maxQuietPolls    = 1000
	maxWave          = 1000
	maxFailedLogins  = 20
	// maxConsumers keeps a drain's cursor, in which each seen one stands, far
	// below what Step Functions lets a run remember (262,144 bytes of all).
	maxConsumers = 500
	// minPoll keeps a drain under the requests and events of one execution.
	minPoll = Duration(time.Second)
)

// checker collects problems.
type checker struct{ problems []Problem }

func (c *checker) add(path, mend, what string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path, What: fmt.Sprintf(what, args...), Mend: mend})
}

// Check returns every rule that a document's content breaks. Whether a kind
// exists and takes its settings is for whoever knows the kinds.
func Check(functionLimit Duration, entries []Entry) []Problem {
	c := &checker{}
	if functionLimit < Duration(time.Second) || functionLimit > maxFunctionLimit {
		c.add("function_limit", "set it to the functions' time-out, from 1s to 15m", "%s is out of range", functionLimit)
	}
	if len(entries) == 0 {
		c.add("secrets", "list at least one", "no secret is listed")
	}
	for i, e := range entries {
		path := fmt.Sprintf("secrets[%d]", i)
		c.entry(path, e, functionLimit, entries)
		for k, earlier := range entries[:i] {
			if e.Secret != "" && overlap(earlier.Secret, e.Secret) {
				c.add(path+".secret", "list each secret once", "secrets[%d] is the same secret", k)
			}
		}
	}
	return c.problems
}

func (c *checker) entry(path string, e Entry, limit Duration, entries []Entry) {
	c.secret(path+".secret", e.Secret)
	if e.Kind == "" {
		c.add(path+".kind", "say which kind of credential it is", "missing")
	}
	if e.Driver != rotation.DriverSecretsManager && e.Driver != rotation.DriverMachine {
		c.add(path+".driver", "use secretsmanager or machine", "%q is no driver", e.Driver)
	}
	if e.Emergency < 0 || e.Emergency > Duration(time.Hour) {
		c.add(path+".emergency", "use 0s to 1h", "%s isn't how long a stolen credential may live on", time.Duration(e.Emergency))
	}
	if e.Hold < 0 {
		c.add(path+".hold", "use 0s or more", "%s is negative", time.Duration(e.Hold))
	}
	if e.HeadLimit < Duration(time.Second) {
		c.add(path+".head_limit", "use 1s or more", "%s is too short for create to finish", e.HeadLimit)
	}
	if e.FailedLogins < 1 || e.FailedLogins > maxFailedLogins {
		c.add(path+".failed_logins_per_hour", fmt.Sprintf("use 1 to %d", maxFailedLogins), "%d is out of range", e.FailedLogins)
	}
	if !bytes.HasPrefix(e.Settings, []byte("{")) {
		c.add(path+".settings", "use an object, {} if the kind needs none", "no object")
	}
	c.consumers(path, e.Consumers, entries)
	c.drain(path, e, limit)
	c.stuck(path+".stuck", e, limit)
	c.schedule(path, e, limit)
	if e.Zone != "" && !IsZone(e.Zone) {
		c.add(path+".zone", "use 1 to 16 lower-case letters, digits and hyphens, beginning with a letter", "%q can't name a zone", e.Zone)
	}
}

func (c *checker) secret(path, secret string) {
	switch {
	case secret == "":
		c.add(path, "give its ARN, or its name if it doesn't exist yet", "missing")
	case IsARN(secret) && !isFullARN(secret):
		c.add(path, "copy the full ARN, with the hyphen and six characters at its end, or give the name alone",
			"%q is no ARN of a secret", secret)
	case !IsARN(secret) && !isName(secret):
		c.add(path, "use 1 to 512 letters, digits and /_+=.@-", "%q is no name of a secret", secret)
	}
}

func (c *checker) drain(path string, e Entry, limit Duration) {
	d := e.Drain
	if d.Window < 0 {
		c.add(path+".drain.window", "use 0s or more", "%s is negative", time.Duration(d.Window))
	}
	if d.Poll < minPoll {
		c.add(path+".drain.poll", "use 1s or more", "%s is too short", d.Poll)
	}
	if d.QuietPolls < 1 || d.QuietPolls > maxQuietPolls {
		c.add(path+".drain.quiet_polls", fmt.Sprintf("use 1 to %d", maxQuietPolls), "%d is out of range", d.QuietPolls)
	}
	if d.OnTimeout != rotation.Hold && d.OnTimeout != rotation.Terminate {
		c.add(path+".drain.on_timeout", "use hold or terminate", "%q is unknown", d.OnTimeout)
	}
	floor := Duration(e.policy("", limit, "").DrainFloor())
	if d.MaxOverlap < floor {
		c.add(path+".drain.max_overlap", fmt.Sprintf("use %s or more, or shorten those", floor),
			"%s is shorter than the least overlap, %s, which the window, the consumers' cadences and caches and function_limit ask for",
			d.MaxOverlap, floor)
	}
}

// stuck refuses limits that would report rotations which go as they should.
func (c *checker) stuck(path string, e Entry, limit Duration) {
	p := e.policy("", limit, "")
	evidence := p.DrainFloor() + p.SlowestCadence()
	atLeast := func(name string, d, least Duration, why string) {
		if d != 0 && d < least {
			c.add(path+"."+name, fmt.Sprintf("use %s or more, or leave it out", least), "%s is shorter than %s, %s", d, least, why)
		}
	}
	atLeast("head", e.Stuck.Head, e.HeadLimit, "head_limit, within which a rotation may still succeed")
	atLeast("drain", e.Stuck.Drain, writable(evidence), "which the evidence of a drain needs (the window, the consumers' cadences and caches, function_limit)")
	atLeast("revoke", e.Stuck.Revoke, writable(evidence+p.Hold), "which the evidence of a drain and hold need")
	if e.Stuck.Revoke != 0 && e.Stuck.Revoke < e.Stuck.Drain {
		c.add(path+".revoke", "use as much as for drain, or more", "%s is shorter than the %s of drain, which comes before it", e.Stuck.Revoke, e.Stuck.Drain)
	}
}

func (c *checker) consumers(path string, consumers []Consumer, entries []Entry) {
	if len(consumers) > maxConsumers {
		c.add(path+".consumers", fmt.Sprintf("list %d or fewer", maxConsumers), "%d are listed", len(consumers))
	}
	urls := map[string]string{}
	for i, p := range consumers {
		at := fmt.Sprintf("%s.consumers[%d]", path, i)
		switch {
		case p.Name == "":
			c.add(at+".name", "name it as it shows itself to the target", "missing")
		case !isConsumer(p.Name):
			c.add(at+".name", "use 1 to 63 letters, digits, dots, hyphens and underscores, not beginning with a dot or hyphen",
				"%q can't name a consumer", p.Name)
		}
		for k, earlier := range consumers[:i] {
			if p.Name != "" && earlier.Name == p.Name {
				c.add(at+".name", "name each consumer once", "consumers[%d] has the same name", k)
			}
		}
		c.followKey(at+".follow_key", p, entries)
		if p.Cadence < 0 || p.Cache < 0 {
			c.add(at, "use 0s or more for cadence and cache", "a duration is negative")
		}
		c.follow(at, p, urls)
	}
}

// CheckFollowKey reports whether a text can name the secret of a signing key;
// none can too. What is wrong doesn't repeat the text: it may be a key.
func CheckFollowKey(path, arn string) (p Problem, ok bool) {
	return Problem{
		Path: path, What: "no ARN of a secret",
		Mend: "store the key in a secret of its own and copy that secret's full ARN, with the hyphen and six characters at its end",
	}, arn == "" || isFullARN(arn)
}

func (c *checker) followKey(path string, p Consumer, entries []Entry) {
	if problem, ok := CheckFollowKey(path, p.FollowKey); !ok {
		c.problems = append(c.problems, problem)
		return
	}
	if p.FollowKey != "" && len(p.Follow) == 0 {
		c.add(path, "leave it out, or list URLs under follow", "nothing is told, so nothing is signed")
	}
	for i, e := range entries {
		if e.Secret != "" && overlap(e.Secret, p.FollowKey) {
			c.add(path, "store the key in a secret of its own", "secrets[%d] is rotated here: its value is a credential and no key", i)
		}
	}
}

func (c *checker) follow(at string, p Consumer, seen map[string]string) {
	for k, follow := range p.Follow {
		path := fmt.Sprintf("%s.follow[%d]", at, k)
		u, err := url.Parse(follow)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
			c.add(path, "write it as https://host/path", "no http or https URL with a host")
		case u.User != nil:
			c.add(path, "take user and password out; follow_key signs requests", "the URL holds a login")
		case u.Fragment != "":
			c.add(path, "take the part from # on out", "the URL has a fragment")
		case seen[follow] != "":
			c.add(path, "list each instance once", "%s is the same URL", seen[follow])
		}
		seen[follow] = path
	}
	switch {
	case len(p.Follow) == 0 && p.Wave != 0:
		c.add(at+".wave", "leave it out, or list URLs under follow", "nothing follows in waves")
	case len(p.Follow) > 0 && (p.Wave < 1 || p.Wave > maxWave):
		c.add(at+".wave", fmt.Sprintf("use 1 to %d", maxWave), "%d is out of range", p.Wave)
	}
}

// schedule refuses a period in which a rotation can't come to its end: the next
// one would find the old credential still alive and fail.
func (c *checker) schedule(path string, e Entry, limit Duration) {
	at := path + ".schedule"
	if e.Schedule == "" {
		if e.ScheduleWindow != 0 {
			c.add(at+"_window", "leave it out, or give a schedule", "nothing is scheduled")
		}
		return
	}
	if e.Driver == rotation.DriverMachine {
		c.add(at, "leave it out: the machine's own schedule starts these", "Secrets Manager schedules only secrets that it drives")
		return
	}
	period, window, err := ParseSchedule(e.Schedule)
	if err != nil {
		c.add(at, "write rate(30 days), rate(12 hours) or cron(0 16 1 * ? *)", "%v", err)
		return
	}
	if e.ScheduleWindow != 0 {
		if what := CheckWindow(e.Schedule, time.Duration(e.ScheduleWindow)); what != "" {
			c.add(at+"_window", "shorten it, or leave it out for Secrets Manager's own", "%s", what)
			return
		}
		window = time.Duration(e.ScheduleWindow)
	}
	needed := time.Duration(e.HeadLimit+e.Drain.MaxOverlap+e.Hold+limit) + window
	if period < needed {
		c.add(at, fmt.Sprintf("rotate every %s or less often, or shorten those", Duration(needed)),
			"two rotations can be %s apart, less than head_limit + max_overlap + hold + function_limit + Secrets Manager's start window of %s",
			Duration(period), Duration(window))
	}
}
