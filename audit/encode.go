package audit

import "strconv"

// sealRecord is seal for a record.
func sealRecord(r Record) (body []byte, hash string, err error) {
	if len(r.Evidence) > 0 {
		if r.Evidence, err = Canonical(r.Evidence); err != nil {
			return nil, "", err
		}
	}
	return sealMembers(r)
}

// sealMembers seals a record whose evidence is canonical. The members stand here
// in the order of their canonical form, so that nothing is decoded and sorted
// again: a step seals two records, and does so cold.
func sealMembers(r Record) (body []byte, hash string, err error) {
	at, err := r.Time.MarshalJSON()
	if err != nil {
		return nil, "", err
	}
	var before, after members
	before.text("actor", r.Actor)
	before.text("actor_type", string(r.ActorType))
	before.text("engine", r.Engine)
	if len(r.Evidence) > 0 {
		before.raw("evidence", r.Evidence)
	}
	before.text("from", r.From)
	after.texts("missing", r.Missing)
	after.texts("notes", r.Notes)
	if r.Outcome != "" {
		after.text("outcome", r.Outcome)
	}
	after.text("phase", string(r.Phase))
	after.text("policy_hash", r.PolicyHash)
	after.text("prev_hash", r.PrevHash)
	after.text("rotation_id", r.RotationID)
	after.text("secret_id", r.SecretID)
	after.raw("seq", strconv.AppendInt(nil, int64(r.Seq), 10))
	after.text("step", r.Step)
	after.raw("time", at)
	after.text("to", r.To)
	body, hash = join(before, after)
	return body, hash, nil
}

// members are those of an object, in canonical form, with commas between them.
type members []byte

func (m *members) name(name string) {
	if len(*m) > 0 {
		*m = append(*m, ',')
	}
	*m = append(appendString(*m, name), ':')
}

func (m *members) raw(name string, value []byte) {
	m.name(name)
	*m = append(*m, value...)
}

func (m *members) text(name, value string) {
	m.name(name)
	*m = appendString(*m, value)
}

// texts leaves an empty list out.
func (m *members) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	m.name(name)
	for i, v := range values {
		*m = appendString(append(*m, "[,"[min(i, 1)]), v)
	}
	*m = append(*m, ']')
}
