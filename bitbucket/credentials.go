package bitbucket

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Kind is a way to authenticate with Bitbucket Cloud.
type Kind string

// The kinds of credentials.
const (
	// KindOAuthConsumer is a private OAuth consumer of the workspace.
	KindOAuthConsumer Kind = "OAuth consumer"
	// KindAPIToken is an Atlassian account's API token, with its email.
	KindAPIToken Kind = "API token"
	// KindAppPassword is an app password, which Atlassian is retiring.
	KindAppPassword Kind = "app password"
	// KindAccessToken is a repository, project or workspace access token.
	KindAccessToken Kind = "access token"
)

// ErrNoCredentials means that a source contains none of the keys.
var ErrNoCredentials = errors.New("no credentials")

// Credentials contains one kind of credentials. The fields of the other kinds are empty.
type Credentials struct {
	// OAuthClientID and OAuthClientSecret are the consumer's key and secret.
	OAuthClientID     string
	OAuthClientSecret Secret
	// AccountEmail and APIToken belong to an Atlassian account.
	AccountEmail string
	APIToken     Secret
	// Username and AppPassword belong to a Bitbucket account.
	Username    string
	AppPassword Secret
	// AccessToken is sent as a bearer token.
	AccessToken Secret
}

// credentialKey maps a field to its names. The environment variables and the keys of the
// Secret runner-bitbucket-credentials are those that Atlassian's runners-autoscaler
// reads, so that an existing Secret can be used.
type credentialKey struct {
	kind      Kind
	env, file string
	get       func(*Credentials) string
	set       func(*Credentials, string)
}

var credentialKeys = []credentialKey{
	{
		KindOAuthConsumer, "BITBUCKET_OAUTH_CLIENT_ID", "bitbucketOauthClientId",
		func(c *Credentials) string { return c.OAuthClientID },
		func(c *Credentials, v string) { c.OAuthClientID = v },
	},
	{
		KindOAuthConsumer, "BITBUCKET_OAUTH_CLIENT_SECRET", "bitbucketOauthClientSecret",
		func(c *Credentials) string { return c.OAuthClientSecret.Reveal() },
		func(c *Credentials, v string) { c.OAuthClientSecret = Secret(v) },
	},
	{
		KindAPIToken, "ATLASSIAN_ACCOUNT_EMAIL", "atlassianAccountEmail",
		func(c *Credentials) string { return c.AccountEmail },
		func(c *Credentials, v string) { c.AccountEmail = v },
	},
	{
		KindAPIToken, "ATLASSIAN_API_TOKEN", "atlassianApiToken",
		func(c *Credentials) string { return c.APIToken.Reveal() },
		func(c *Credentials, v string) { c.APIToken = Secret(v) },
	},
	{
		KindAppPassword, "BITBUCKET_USERNAME", "bitbucketUsername",
		func(c *Credentials) string { return c.Username },
		func(c *Credentials, v string) { c.Username = v },
	},
	{
		KindAppPassword, "BITBUCKET_APP_PASSWORD", "bitbucketAppPassword",
		func(c *Credentials) string { return c.AppPassword.Reveal() },
		func(c *Credentials, v string) { c.AppPassword = Secret(v) },
	},
	{
		KindAccessToken, "BITBUCKET_ACCESS_TOKEN", "bitbucketAccessToken",
		func(c *Credentials) string { return c.AccessToken.Reveal() },
		func(c *Credentials, v string) { c.AccessToken = Secret(v) },
	},
}

// Kind returns the kind of the credentials. It is empty if there are none. If there are
// several kinds, which Validate refuses, it is the first.
func (c Credentials) Kind() Kind {
	for _, key := range credentialKeys {
		if key.get(&c) != "" {
			return key.kind
		}
	}
	return ""
}

// Deprecated reports whether Atlassian is retiring this kind.
func (c Credentials) Deprecated() bool { return c.Kind() == KindAppPassword }

// Validate reports every fault. It names keys but never a value. Exactly one kind must be
// given, with all its keys. Validate returns ErrNoCredentials if no key is given.
func (c Credentials) Validate() error {
	var (
		faults  []error
		kinds   []string
		present = map[Kind]bool{}
	)
	for _, key := range credentialKeys {
		value := key.get(&c)
		if value == "" {
			continue
		}
		if !present[key.kind] {
			present[key.kind] = true
			kinds = append(kinds, string(key.kind))
		}
		if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
			faults = append(faults, fmt.Errorf("%s (%s): contains a space or a control character", key.file, key.env))
		}
		if key.file == "bitbucketOauthClientId" || key.file == "bitbucketUsername" || key.file == "atlassianAccountEmail" {
			if strings.Contains(value, ":") {
				faults = append(faults, fmt.Errorf("%s (%s): contains a colon, which basic authentication does not allow", key.file, key.env))
			}
		}
	}
	if len(kinds) == 0 {
		return fmt.Errorf("%w: want one of %s", ErrNoCredentials, acceptedKeys())
	}
	if len(kinds) > 1 {
		faults = append(faults, fmt.Errorf("%s are given together: want exactly one of them", strings.Join(kinds, " and ")))
	}
	for _, key := range credentialKeys {
		if present[key.kind] && key.get(&c) == "" {
			faults = append(faults, fmt.Errorf("%s (%s): missing, the %s needs it", key.file, key.env, key.kind))
		}
	}
	return errors.Join(faults...)
}

// CredentialKeys returns the names that a set's files may have: the Secret's keys and the
// environment variables.
func CredentialKeys() (files, variables []string) {
	for _, key := range credentialKeys {
		files, variables = append(files, key.file), append(variables, key.env)
	}
	return files, variables
}

// acceptedKeys lists the keys by kind, for error texts.
func acceptedKeys() string {
	var text strings.Builder
	var last Kind
	for _, key := range credentialKeys {
		switch {
		case last == key.kind:
			text.WriteString(" and ")
		case last != "":
			text.WriteString(", or ")
		}
		last = key.kind
		text.WriteString(key.file + " (" + key.env + ")")
	}
	return text.String()
}

// secrets returns the values that must never be printed.
func (c Credentials) secrets() []string {
	var values []string
	for _, s := range []Secret{c.OAuthClientSecret, c.APIToken, c.AppPassword, c.AccessToken} {
		if s != "" {
			values = append(values, s.Reveal())
		}
	}
	return values
}
