package secretsmanager

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// timestamp makes an optional time of the API model.
func timestamp(t time.Time) *awsproto.Time {
	if t.IsZero() {
		return nil
	}
	out := awsproto.Time(t)
	return &out
}

type getSecretValueInput struct {
	SecretID     string  `json:"SecretId"`
	VersionID    *string `json:"VersionId"`
	VersionStage *string
}

type secretValue struct {
	ARN           string
	Name          string
	CreatedDate   *awsproto.Time
	SecretBinary  []byte  `json:",omitempty"`
	SecretString  *string `json:",omitempty"`
	VersionID     string  `json:"VersionId"`
	VersionStages []string
}

func (s *Service) getSecretValue(in getSecretValueInput) (any, error) {
	return s.value(in)
}

func (s *Service) value(in getSecretValueInput) (*secretValue, error) {
	sec, err := s.findLive(in.SecretID)
	if err != nil {
		return nil, err
	}
	if in.VersionID != nil {
		if err := checkToken(*in.VersionID); err != nil {
			return nil, err
		}
	}
	from := sec.view
	if in.VersionStage != nil || in.VersionID == nil {
		from = s.seen(sec)
	}
	v, err := from.read(in.VersionID, in.VersionStage)
	if err != nil {
		return nil, err
	}
	// AWS keeps the day of a read, not its time.
	today := s.clock.Now().Truncate(24 * time.Hour)
	sec.accessed, sec.readVersions[v.id] = today, today
	return &secretValue{
		ARN: sec.arn, Name: sec.name, CreatedDate: timestamp(v.created),
		SecretBinary: v.binary, SecretString: v.text, VersionID: v.id, VersionStages: from.labelsOf(v.id),
	}, nil
}

// read finds a version that has a value. The empty one that a rotation begins
// with is not found, however one asks for it.
func (v view) read(id, stage *string) (*version, error) {
	if id == nil {
		label := current
		if stage != nil {
			label = *stage
		}
		found := v.versions[v.labels[label]]
		if found == nil || found.empty() {
			return nil, awsproto.Errorf("ResourceNotFoundException",
				"Secrets Manager can't find the specified secret value for staging label: %s", label)
		}
		return found, nil
	}
	found := v.versions[*id]
	if found != nil && stage != nil && v.labels[*stage] != *id {
		return nil, awsproto.Errorf("InvalidRequestException",
			"You provided a VersionStage that is not associated to the provided VersionId.")
	}
	if found == nil || found.empty() {
		return nil, awsproto.Errorf("ResourceNotFoundException",
			"Secrets Manager can't find the specified secret value for VersionId: %s", *id)
	}
	return found, nil
}

type batchGetSecretValueInput struct {
	Filters      []filter
	MaxResults   *int
	NextToken    string
	SecretIDList []string `json:"SecretIdList"`
}

type batchError struct {
	ErrorCode string
	Message   string
	SecretID  string `json:"SecretId"`
}

type batchGetSecretValueOutput struct {
	Errors       []batchError
	NextToken    string `json:",omitempty"`
	SecretValues []*secretValue
}

// batchGetSecretValue reads AWSCURRENT of up to 20 secrets; what can't be read
// is reported beside the values, not instead of them.
func (s *Service) batchGetSecretValue(in batchGetSecretValueInput) (any, error) {
	const most = 20
	if (len(in.SecretIDList) > 0) == (len(in.Filters) > 0) {
		return nil, awsproto.Errorf("InvalidParameterException", "You must include Filters or SecretIdList, but not both.")
	}
	if len(in.SecretIDList) > most || (len(in.SecretIDList) > 0 && (in.MaxResults != nil || in.NextToken != "")) {
		return nil, awsproto.Errorf("InvalidParameterException",
			"SecretIdList holds at most %d secrets, and MaxResults and NextToken are for Filters.", most)
	}
	out := batchGetSecretValueOutput{Errors: []batchError{}, SecretValues: []*secretValue{}}
	ids := in.SecretIDList
	if len(ids) == 0 {
		found, err := s.filtered(in.Filters, false)
		if err != nil {
			return nil, err
		}
		page, next, err := paged(found, func(sec *secret) string { return sec.arn }, in.MaxResults, most, in.NextToken)
		if err != nil {
			return nil, err
		}
		out.NextToken = next
		for _, sec := range page {
			ids = append(ids, sec.arn)
		}
	}
	for _, id := range ids {
		v, err := s.value(getSecretValueInput{SecretID: id})
		if err != nil {
			code, message := codeOf(err)
			out.Errors = append(out.Errors, batchError{code, message, id})
			continue
		}
		out.SecretValues = append(out.SecretValues, v)
	}
	return out, nil
}

type describeSecretInput struct {
	SecretID string `json:"SecretId"`
}

type replicationStatus struct {
	Region string
	Status string
}

// description serves DescribeSecret and, with the labels under another name,
// ListSecrets.
type description struct {
	ARN                    string
	Name                   string
	Description            string              `json:",omitempty"`
	KmsKeyID               string              `json:"KmsKeyId,omitempty"`
	Type                   string              `json:",omitempty"`
	CreatedDate            *awsproto.Time      `json:",omitempty"`
	DeletedDate            *awsproto.Time      `json:",omitempty"`
	LastAccessedDate       *awsproto.Time      `json:",omitempty"`
	LastChangedDate        *awsproto.Time      `json:",omitempty"`
	LastRotatedDate        *awsproto.Time      `json:",omitempty"`
	NextRotationDate       *awsproto.Time      `json:",omitempty"`
	OwningService          string              `json:",omitempty"`
	PrimaryRegion          string              `json:",omitempty"`
	ReplicationStatus      []replicationStatus `json:",omitempty"`
	RotationEnabled        *bool               `json:",omitempty"`
	RotationLambdaARN      string              `json:",omitempty"`
	RotationRules          *rotationRules      `json:",omitempty"`
	Tags                   []tag               `json:",omitempty"`
	VersionIDsToStages     map[string][]string `json:"VersionIdsToStages,omitempty"`
	SecretVersionsToStages map[string][]string `json:",omitempty"`
}

func (s *Service) describeSecret(in describeSecretInput) (any, error) {
	sec, err := s.find(in.SecretID)
	if err != nil {
		return nil, err
	}
	d := sec.describe()
	d.VersionIDsToStages = s.seen(sec).stages()
	for _, region := range sec.replicas {
		d.ReplicationStatus = append(d.ReplicationStatus, replicationStatus{region, "InSync"})
	}
	return d, nil
}

func (sec *secret) describe() description {
	d := description{
		ARN: sec.arn, Name: sec.name, Description: sec.description, KmsKeyID: sec.kmsKey, Type: sec.kind,
		CreatedDate: timestamp(sec.created), DeletedDate: timestamp(sec.deletion),
		LastAccessedDate: timestamp(sec.accessed), LastChangedDate: timestamp(sec.changed),
		OwningService: sec.owner, PrimaryRegion: sec.primary, Tags: sec.tags,
	}
	if r := sec.rotation; r.configured {
		enabled := r.enabled
		d.RotationEnabled, d.RotationLambdaARN = &enabled, r.function
		if r.rules != (rotationRules{}) {
			rules := r.rules
			if rules.AutomaticallyAfterDays == 0 && !r.last.IsZero() && r.next.Sub(r.last) >= day {
				rules.AutomaticallyAfterDays = int((r.next.Sub(r.last) + day - 1) / day)
			}
			d.RotationRules = &rules
		}
		if enabled { // neither date is shown of a rotation that is switched off
			d.LastRotatedDate, d.NextRotationDate = timestamp(r.last), timestamp(r.next)
		}
	}
	return d
}

type listSecretVersionIDsInput struct {
	SecretID          string `json:"SecretId"`
	IncludeDeprecated bool
	MaxResults        *int
	NextToken         string
}

type versionEntry struct {
	CreatedDate      *awsproto.Time
	KmsKeyIDs        []string       `json:"KmsKeyIds"`
	LastAccessedDate *awsproto.Time `json:",omitempty"`
	VersionID        string         `json:"VersionId"`
	VersionStages    []string       `json:",omitempty"`
}

type listSecretVersionIDsOutput struct {
	ARN       string
	Name      string
	NextToken string `json:",omitempty"`
	Versions  []versionEntry
}

func (s *Service) listSecretVersionIDs(in listSecretVersionIDsInput) (any, error) {
	sec, err := s.findLive(in.SecretID)
	if err != nil {
		return nil, err
	}
	shown := s.seen(sec)
	var entries []versionEntry
	for id, v := range shown.versions {
		stages := shown.labelsOf(id)
		if len(stages) == 0 && !in.IncludeDeprecated {
			continue
		}
		key := cmp.Or(sec.kmsKey, "DefaultEncryptionKey")
		entries = append(entries, versionEntry{
			timestamp(v.created), []string{key}, timestamp(sec.readVersions[id]), id, stages,
		})
	}
	slices.SortFunc(entries, func(a, b versionEntry) int {
		return cmp.Or(time.Time(*a.CreatedDate).Compare(time.Time(*b.CreatedDate)), cmp.Compare(a.VersionID, b.VersionID))
	})
	id := func(e versionEntry) string { return e.VersionID }
	page, next, err := paged(entries, id, in.MaxResults, 100, in.NextToken)
	if err != nil {
		return nil, err
	}
	if page == nil {
		page = []versionEntry{}
	}
	return listSecretVersionIDsOutput{sec.arn, sec.name, next, page}, nil
}
