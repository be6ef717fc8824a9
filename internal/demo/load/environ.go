package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/rotation"
)

// environment is what a process found in its environment when it started.
type environment struct {
	secret, version string
	user            string
	password        rotation.Value
}

func (r *Run) readEnvironment(ctx context.Context) (environment, error) {
	out, err := r.cfg.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(r.cfg.SecretID), VersionStage: aws.String("AWSCURRENT"),
	})
	if err != nil {
		return environment{}, fmt.Errorf("reading secret %s: %w", r.cfg.SecretID, err)
	}
	var fields struct{ Username, Password string }
	if json.Unmarshal([]byte(aws.ToString(out.SecretString)), &fields) != nil || fields.Username == "" {
		return environment{}, fmt.Errorf("secret %s doesn't hold username and password", r.cfg.SecretID)
	}
	return environment{
		secret: aws.ToString(out.ARN), version: aws.ToString(out.VersionId),
		user: fields.Username, password: rotation.NewValue(fields.Password),
	}, nil
}

// process is one life of an environ instance: its environment never changes.
type process struct {
	env   environment
	pool  *pgxpool.Pool
	users sync.WaitGroup // requests under way; Add only under environ.mu
}

// environ is an instance that follows by being restarted.
type environ struct {
	run    *Run
	who    *consumer
	logger *slog.Logger
	lost   atomic.Int64

	mu       sync.Mutex
	live     *process
	restart  *restart // the last one that was asked for
	restarts sync.WaitGroup
}

// restart is one graceful restart; finished closes when it is over.
type restart struct {
	version  string
	finished chan struct{}
	err      error // read it after finished
}

func (r *Run) startEnviron(ctx context.Context, c *consumer) (work, error) {
	e := &environ{run: r, who: c, logger: r.cfg.Logger.With("consumer", c.name)}
	env, err := r.readEnvironment(ctx)
	if err != nil {
		return nil, err
	}
	if e.live, err = e.start(ctx, env); err != nil {
		return nil, err
	}
	r.restarts.add(c.name, e)
	return e, nil
}

func (e *environ) start(ctx context.Context, env environment) (*process, error) {
	pc := e.run.poolConfig(e.who, environConns)
	pc.ConnConfig.User, pc.ConnConfig.Password = env.user, env.password.Reveal()
	pc.MaxConnLifetime, pc.MaxConnLifetimeJitter = e.run.cfg.Recycle, e.run.cfg.Recycle/3
	pc.BeforeClose = func(conn *pgx.Conn) {
		if conn.IsClosed() {
			e.lost.Add(1)
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, err
	}
	if err := warm(ctx, pool.Acquire, e.run.cfg.Statement); err != nil {
		pool.Close()
		return nil, err
	}
	return &process{env: env, pool: pool}, nil
}

func (e *environ) do(ctx context.Context) (string, error) {
	e.mu.Lock()
	p := e.live
	p.users.Add(1)
	e.mu.Unlock()
	defer p.users.Done()
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return p.env.user, errors.Join(errNoConnection, err)
	}
	defer conn.Release()
	_, err = conn.Exec(ctx, e.run.cfg.Statement)
	return p.env.user, err
}

func (e *environ) counters() counters { return counters{reconnects: e.lost.Load()} }

func (e *environ) close() {
	e.restarts.Wait()
	e.mu.Lock()
	p := e.live
	e.mu.Unlock()
	p.pool.Close()
}

// errOtherSecret and errNotCurrent are the ways in which an order to restart
// can be wrong.
var (
	errOtherSecret = errors.New("this instance doesn't use that secret")
	errNotCurrent  = errors.New("that version isn't AWSCURRENT: a restart would read another one")
)

// adopt restarts the instance with a version, or joins the restart that does
// so already. An instance that runs with it needs none. The end of ctx doesn't end
// the restart.
func (e *environ) adopt(ctx context.Context, secret, version string) (*restart, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if secret != e.live.env.secret && secret != e.run.cfg.SecretID {
		return nil, errOtherSecret
	}
	if last := e.restart; last != nil {
		select {
		case <-last.finished:
			if last.version == version && last.err == nil && e.live.env.version == version {
				return last, nil
			}
		default:
			return last, nil // one at a time; the caller sees which, and asks again
		}
	}
	next := &restart{version: version, finished: make(chan struct{})}
	e.restart = next
	e.restarts.Go(func() {
		defer close(next.finished)
		if next.err = e.follow(context.WithoutCancel(ctx), version); next.err != nil {
			e.logger.Warn("not restarted", "version", version, "error", next.err)
		}
	})
	return next, nil
}

// restartLimit ends a restart that doesn't get anywhere; the old process stays.
const restartLimit = 30 * time.Second

// follow starts the new process, sends it the requests, and then ends the old
// one when it has answered its last.
func (e *environ) follow(ctx context.Context, version string) error {
	ctx, cancel := context.WithTimeout(ctx, restartLimit)
	defer cancel()
	e.mu.Lock()
	old := e.live
	e.mu.Unlock()
	if old.env.version == version {
		return nil
	}
	env, err := e.run.readEnvironment(ctx)
	if err != nil {
		return err
	}
	if env.version != version {
		return errNotCurrent
	}
	fresh, err := e.start(ctx, env)
	if err != nil {
		return fmt.Errorf("starting with version %s: %w", version, err)
	}
	e.mu.Lock()
	e.live = fresh
	e.mu.Unlock()
	old.users.Wait()
	old.pool.Close()
	return nil
}

// state is what the instance answers about itself: the version in use, and
// whether it uses no other beside it. A restart that came to nothing leaves it
// as it was.
func (e *environ) state() (version string, done bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	done = true
	if e.restart != nil {
		select {
		case <-e.restart.finished:
		default:
			done = false
		}
	}
	return e.live.env.version, done
}
