package local_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// serverLog is where RDS would export the database's log to.
const serverLog = "/aws/rds/instance/shop/postgresql"

// exportsItsLog makes the group, which has to be there before anything is deployed.
func (d *deployed) exportsItsLog() {
	d.t.Helper()
	d.logService("CreateLogGroup", map[string]any{"logGroupName": serverLog})
	d.logService("CreateLogStream", map[string]any{"logGroupName": serverLog, "logStreamName": "shop.0"})
}

// logService calls CloudWatch Logs, of which nothing else here needs an SDK.
func (d *deployed) logService(action string, in map[string]any) {
	d.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		d.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.aws.Endpoint, bytes.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "Logs_20140328."+action)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		d.t.Fatalf("%s: %s", action, text)
	}
}

// exported sends what the server has logged after so many bytes, and returns how
// many there are now.
func (d *deployed) exported(after int) int {
	d.t.Helper()
	text, err := d.cluster.Primary.Log()
	if err != nil {
		d.t.Fatal(err)
	}
	whole := strings.LastIndexByte(text, '\n') + 1 // a line may be half written
	var events []map[string]any
	for line := range strings.Lines(text[after:whole]) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			events = append(events, map[string]any{"timestamp": time.Now().UnixMilli(), "message": line})
		}
	}
	if len(events) > 0 {
		d.logService("PutLogEvents", map[string]any{"logGroupName": serverLog, "logStreamName": "shop.0", "logEvents": events})
	}
	return whole
}

// comesLate: somebody whom no look at the drain has seen tries the login while it is
// held. It works again, people hear of it, and the rotation ends when he has gone.
func (f *follower) comesLate() {
	f.d.t.Helper()
	before, old := f.d.current()
	shipped := f.d.exported(0)
	f.d.operator("rotate", f.d.secret)
	f.d.within(time.Minute, func() bool {
		return slices.Contains(f.d.stages()[before], "KEYTURN_DISABLED") && !f.d.works(old)
	}, f.d.waitsFor)
	f.d.within(time.Minute, func() bool {
		if f.d.works(old) {
			return true
		}
		time.Sleep(time.Second) // the server's log comes in batches, too
		shipped = f.d.exported(shipped)
		return false
	}, f.d.waitsFor)
	f.d.within(time.Minute, func() bool { return strings.Contains(f.d.told(), "LateLogin") }, func() string {
		return "nobody hears of it: " + f.d.told() + f.d.logs.warnings()
	})
	// As long as he was away, and the hold once more.
	f.d.within(3*time.Minute, func() bool { now, _ := f.d.current(); return now != before && f.d.alone() }, f.d.waitsFor)
	if f.d.works(old) {
		f.d.t.Errorf("%s: the login that was let in again works after its revoke", f.name)
	}
}
