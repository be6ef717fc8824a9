package load

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// adoptWait is how long an order to restart waits for its end before it
// answers that the restart goes on.
const adoptWait = time.Second

// restarts is the HTTP endpoint of all environ instances, on loopback:
//
//	POST /<instance>/adopt {"secret": "<ARN>", "version": "<version id>"}
//	GET  /<instance>/adopt
//
// Both answer {"version": "<version in use>", "done": <bool>}. POST starts a
// graceful restart unless the instance uses the version already; asking twice
// is the same as asking once. 404: no such instance or another secret.
type restarts struct {
	listener net.Listener
	server   *http.Server
	served   sync.WaitGroup

	mu        sync.Mutex
	instances map[string]*environ
}

func newRestarts(l net.Listener) *restarts {
	rs := &restarts{listener: l, instances: make(map[string]*environ)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{instance}/adopt", rs.post)
	mux.HandleFunc("GET /{instance}/adopt", rs.get)
	rs.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	rs.served.Go(func() { _ = rs.server.Serve(l) }) // ends with close
	return rs
}

// close ends the endpoint, also when ctx is over.
func (rs *restarts) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*adoptWait)
	defer cancel()
	if rs.server.Shutdown(ctx) != nil {
		_ = rs.server.Close() // whoever still waits has had its time
	}
	rs.served.Wait()
}

func (rs *restarts) add(name string, e *environ) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.instances[name] = e
}

func (rs *restarts) url(name string) string {
	return "http://" + rs.listener.Addr().String() + "/" + name + "/adopt"
}

func (rs *restarts) instance(w http.ResponseWriter, r *http.Request) *environ {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	e := rs.instances[r.PathValue("instance")]
	if e == nil {
		http.Error(w, "no such instance", http.StatusNotFound)
	}
	return e
}

func (rs *restarts) post(w http.ResponseWriter, r *http.Request) {
	e := rs.instance(w, r)
	if e == nil {
		return
	}
	var order struct {
		Secret  string `json:"secret"`
		Version string `json:"version"`
	}
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
	body.DisallowUnknownFields()
	if body.Decode(&order) != nil || order.Secret == "" || order.Version == "" {
		http.Error(w, `send {"secret": "<ARN>", "version": "<version id>"}`, http.StatusBadRequest)
		return
	}
	job, err := e.adopt(r.Context(), order.Secret, order.Version)
	if errors.Is(err, errOtherSecret) {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	select {
	case <-job.finished:
	case <-time.After(adoptWait):
	case <-r.Context().Done():
		return
	}
	version, done := e.state()
	writeState(w, version, done && version == order.Version)
}

func (rs *restarts) get(w http.ResponseWriter, r *http.Request) {
	if e := rs.instance(w, r); e != nil {
		version, done := e.state()
		writeState(w, version, done)
	}
}

func writeState(w http.ResponseWriter, version string, done bool) {
	w.Header().Set("Content-Type", "application/json")
	// A caller that has gone asks again.
	_ = json.NewEncoder(w).Encode(struct {
		Version string `json:"version"`
		Done    bool   `json:"done"`
	}{version, done})
}
