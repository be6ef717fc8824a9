package keyturn

// statement is one of a policy. Its fields are IAM's elements.
type statement struct {
	sid       string
	deny      bool
	principal any // of resource policies
	actions   []string
	resources []string
	condition map[string]any
}

// document is the JSON of a policy; statements without resources are left out,
// as is a policy without statements (nil).
func document(statements ...statement) map[string]any {
	var list []any
	for _, s := range statements {
		if len(s.resources) == 0 {
			continue
		}
		one := map[string]any{"Effect": "Allow", "Action": texts(s.actions), "Resource": texts(s.resources)}
		if s.deny {
			one["Effect"] = "Deny"
		}
		if s.sid != "" {
			one["Sid"] = s.sid
		}
		if s.principal != nil {
			one["Principal"] = s.principal
		}
		if len(s.condition) > 0 {
			one["Condition"] = s.condition
		}
		list = append(list, one)
	}
	if len(list) == 0 {
		return nil
	}
	return map[string]any{"Version": "2012-10-17", "Statement": list}
}

// texts writes one value as itself, as IAM's console does.
func texts(values []string) any {
	if len(values) == 1 {
		return values[0]
	}
	list := make([]any, 0, len(values))
	for _, v := range values {
		list = append(list, v)
	}
	return list
}

// service is the principal of an AWS service.
func service(names ...string) map[string]any { return map[string]any{"Service": texts(names)} }

// everyone is the principal of a statement that denies.
func everyone() map[string]any { return map[string]any{"AWS": "*"} }

// equals is the condition StringEquals.
func equals(key string, values ...string) map[string]any {
	return map[string]any{"StringEquals": map[string]any{key: texts(values)}}
}

// assumed is the trust policy of a role.
func assumed(by string, condition map[string]any) map[string]any {
	trust := map[string]any{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": service(by)}
	if condition != nil {
		trust["Condition"] = condition
	}
	return map[string]any{"Version": "2012-10-17", "Statement": []any{trust}}
}
