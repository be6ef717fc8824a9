package deployment

import (
	"context"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/keyturn/keyturn/fault"
)

// The switches of the SDK that are true or false.
const (
	useFIPS         = "AWS_USE_FIPS_ENDPOINT"
	useDualStack    = "AWS_USE_DUALSTACK_ENDPOINT"
	ignoreEndpoints = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
)

// AWSConfig reads the SDK's settings from the variables that Lambda sets
// (AWS_REGION and the role's AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
// AWS_SESSION_TOKEN, which hold for the life of the environment), and the ones
// that a deployment may add: AWS_ENDPOINT_URL and the same with _SECRETS_MANAGER
// or _SFN, AWS_MAX_ATTEMPTS, AWS_RETRY_MODE and the three switches. What is
// missing or can't be read is fault.InvalidInput and named.
//
// It stands for the SDK's package config, which would read shared files and
// link SSO and STS into every function: 2 MB, and time at each cold start. A
// CA of your own goes by SSL_CERT_FILE, not AWS_CA_BUNDLE.
func AWSConfig(getenv func(string) string) (aws.Config, error) {
	region := getenv("AWS_REGION")
	if region == "" {
		region = getenv("AWS_DEFAULT_REGION")
	}
	key := aws.Credentials{
		AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: getenv("AWS_SESSION_TOKEN"), Source: "Lambda's environment",
	}
	var missing []string
	for _, v := range []struct{ name, value string }{
		{"AWS_REGION", region}, {"AWS_ACCESS_KEY_ID", key.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", key.SecretAccessKey},
	} {
		if v.value == "" {
			missing = append(missing, v.name)
		}
	}
	if len(missing) > 0 {
		return aws.Config{}, fault.New(fault.InvalidInput, "the environment lacks %s", strings.Join(missing, " and ")).
			WithHint("Lambda sets them for every function; a function reads no shared configuration files")
	}
	env := environment(getenv)
	if err := env.check(); err != nil {
		return aws.Config{}, err
	}
	cfg := aws.Config{
		Region: region, Credentials: credentials.StaticCredentialsProvider{Value: key},
		RetryMode: aws.RetryMode(getenv("AWS_RETRY_MODE")), ConfigSources: []any{env},
	}
	cfg.RetryMaxAttempts, _ = strconv.Atoi(getenv("AWS_MAX_ATTEMPTS")) // checked; 0 is the SDK's default
	if endpoint := getenv("AWS_ENDPOINT_URL"); endpoint != "" && !env.on(ignoreEndpoints) {
		cfg.BaseEndpoint = &endpoint
	}
	return cfg, nil
}

// environment answers what the SDK's clients ask of their configuration.
type environment func(string) string

// check is done at once: a client would pass over a value that it can't read.
func (e environment) check() error {
	for _, name := range []string{useFIPS, useDualStack, ignoreEndpoints} {
		if v := e(name); v != "" && !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
			return fault.New(fault.InvalidInput, "%s is %q", name, v).WithHint("set it to true or false, or not at all")
		}
	}
	if v := e("AWS_RETRY_MODE"); v != "" {
		if _, err := aws.ParseRetryMode(v); err != nil {
			return fault.New(fault.InvalidInput, "AWS_RETRY_MODE is %q", v).WithHint("set it to standard or adaptive, or not at all")
		}
	}
	if v := e("AWS_MAX_ATTEMPTS"); v != "" {
		if n, err := strconv.Atoi(v); err != nil || n < 1 {
			return fault.New(fault.InvalidInput, "AWS_MAX_ATTEMPTS is %q", v).WithHint("set it to 1 or more, or not at all")
		}
	}
	return nil
}

func (e environment) on(name string) bool { return strings.EqualFold(e(name), "true") }

// GetServiceBaseEndpoint is asked with the service's name, as "Secrets Manager".
func (e environment) GetServiceBaseEndpoint(_ context.Context, service string) (endpoint string, found bool, err error) {
	endpoint = e("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(service, " ", "_")))
	return endpoint, endpoint != "", nil
}

// GetIgnoreConfiguredEndpoints is asked before GetServiceBaseEndpoint.
func (e environment) GetIgnoreConfiguredEndpoints(context.Context) (ignore, found bool, err error) {
	return e.on(ignoreEndpoints), e(ignoreEndpoints) != "", nil
}

// GetUseFIPSEndpoint is asked when a client is made.
func (e environment) GetUseFIPSEndpoint(context.Context) (state aws.FIPSEndpointState, found bool, err error) {
	if e.on(useFIPS) {
		return aws.FIPSEndpointStateEnabled, true, nil
	}
	return aws.FIPSEndpointStateDisabled, e(useFIPS) != "", nil
}

// GetUseDualStackEndpoint is asked when a client is made.
func (e environment) GetUseDualStackEndpoint(context.Context) (state aws.DualStackEndpointState, found bool, err error) {
	if e.on(useDualStack) {
		return aws.DualStackEndpointStateEnabled, true, nil
	}
	return aws.DualStackEndpointStateDisabled, e(useDualStack) != "", nil
}
