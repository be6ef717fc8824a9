package secretsmanager

import (
	"encoding/json"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/trail"
)

// publishService tells the bus what the service did of its own accord.
func (s *Service) publishService(name, arn string) {
	trail.PublishOwn(s.bus, s.log, trail.Own{
		Service: "secretsmanager", Name: name, At: s.clock.Now(), Data: map[string]any{"SecretId": arn},
	})
}

// valuable are the members that stay out of records.
var valuable = []string{"SecretString", "SecretBinary", "RotationToken", "RandomPassword"}

// publishCall tells the bus about a call, refused ones included; values and
// rotation tokens stay out of it.
func (s *Service) publishCall(c awsproto.Caller, name string, readOnly bool, body []byte, out any, err error) {
	call := trail.Call{
		Service: "secretsmanager", Name: name, At: s.clock.Now(), Caller: c, ReadOnly: readOnly,
		Request: trail.Members(body, valuable...), Err: err,
	}
	if err == nil && !readOnly {
		answer, _ := json.Marshal(out) // outputs are plain structs
		call.Response = trail.Members(answer, valuable...)
	}
	trail.Publish(s.bus, s.log, call)
}
