package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/pgtest"
)

// credential is the secret's value as AWS's documentation shapes it.
type credential struct {
	Engine    string `json:"engine"`
	Host      string `json:"host"`
	Port      int    `json:"port"`
	Username  string `json:"username"`
	Password  string `json:"password"`
	DBName    string `json:"dbname"`
	MasterARN string `json:"masterarn,omitempty"`
}

// cacheAge is how long a consumer may use what it has read, as the policy says.
const cacheAge = 20 * time.Second

// instanceName is the party that the policy registers.
const instanceName = "web"

// consumers are all that there could be: whatever AWSCURRENT has shown within
// the cache age has to log in, past every proxy. One of them is real: an
// instance that holds a session and follows when it is told.
type consumers struct {
	w      *walk
	server *httptest.Server

	mu      sync.Mutex
	current string
	known   map[string]credential // by version
	until   map[string]time.Time  // of versions that were current
	tries   int
	version string    // that the instance uses
	conn    *pgx.Conn // its session
	cut     bool      // the stolen login was seen to be refused
	back    time.Time // from then on the instance answers
}

func newConsumers(w *walk) *consumers {
	c := &consumers{w: w, known: map[string]credential{}, until: map[string]time.Time{}}
	c.server = httptest.NewServer(c)
	return c
}

func (c *consumers) close() {
	c.server.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close(context.Background())
	}
}

// look tries every credential that a consumer may be using now.
func (c *consumers) look(ctx context.Context, when string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx = outside(ctx)
	if err := c.read(ctx); err != nil {
		c.w.broken("%s AWSCURRENT can't be read: %v", when, err)
		return
	}
	if c.w.scene.entry.cut && c.stolen(ctx, when) {
		return
	}
	c.instance(ctx, when)
	now := c.w.aws.Clock.Now()
	for version, until := range c.until {
		if version != c.current && now.After(until) {
			delete(c.until, version)
			continue
		}
		err := c.login(ctx, c.known[version])
		if err == nil {
			continue
		}
		if version != c.current && c.w.aws.Clock.Now().After(until) {
			continue // its time ended while we tried
		}
		c.w.broken("%s login %s (version %s), which consumers use, is refused: %v", when, c.known[version].Username, version, err)
	}
}

// read notes what AWSCURRENT shows.
func (c *consumers) read(ctx context.Context) error {
	out, err := c.w.plain.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &c.w.arn})
	if err != nil {
		return err
	}
	version := aws.ToString(out.VersionId)
	if version == c.current {
		return nil
	}
	var value credential
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &value); err != nil {
		return errors.New("it isn't the JSON of a credential")
	}
	switch {
	case c.current == "":
	case c.w.scene.entry.stolen:
		delete(c.until, c.current)
	default:
		c.until[c.current] = c.w.aws.Clock.Now().Add(cacheAge)
	}
	c.current, c.known[version], c.until[version] = version, value, time.Time{}
	return nil
}

func (c *consumers) login(ctx context.Context, value credential) error {
	c.tries++
	conn, err := c.dial(ctx, value, "chaos")
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (c *consumers) tried() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tries
}

func (c *consumers) dial(ctx context.Context, value credential, application string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cfg, err := pgx.ParseConfig(c.w.cluster.DSN(c.w.cluster.Primary,
		pgtest.Login{User: value.Username, Password: value.Password, Database: value.DBName}))
	if err != nil {
		return nil, errors.New("the consumer's address can't be read")
	}
	cfg.RuntimeParams["application_name"] = application
	if application != instanceName {
		cfg.TLSConfig = nil
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return nil, fmt.Errorf("SQLSTATE %s", refused.Code)
	}
	if err != nil {
		return nil, errors.New("no answer from the server")
	}
	return conn, nil
}
