package bitbucket

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCredentialsFromEnvironmentAndDirectory(t *testing.T) {
	for name, tc := range map[string]struct {
		keys map[string]string
		want Credentials
		// onlyDir is set if the names are not those of environment variables.
		onlyDir bool
		// faults are in the error text. If there are none, the error is ErrNoCredentials.
		faults []string
		none   bool
	}{
		"consumer, environment names": {keys: map[string]string{"BITBUCKET_OAUTH_CLIENT_ID": "a", "BITBUCKET_OAUTH_CLIENT_SECRET": "b\n"}, want: Credentials{OAuthClientID: "a", OAuthClientSecret: "b"}},
		"consumer, Secret's keys":     {keys: map[string]string{"bitbucketOauthClientId": "a", "bitbucketOauthClientSecret": "b"}, onlyDir: true, want: Credentials{OAuthClientID: "a", OAuthClientSecret: "b"}},
		"API token":                   {keys: map[string]string{"ATLASSIAN_ACCOUNT_EMAIL": "a@example.com", "ATLASSIAN_API_TOKEN": "b"}, want: Credentials{AccountEmail: "a@example.com", APIToken: "b"}},
		"API token, Secret's keys":    {keys: map[string]string{"atlassianAccountEmail": "a@example.com", "atlassianApiToken": "b"}, onlyDir: true, want: Credentials{AccountEmail: "a@example.com", APIToken: "b"}},
		"app password":                {keys: map[string]string{"BITBUCKET_USERNAME": "a", "BITBUCKET_APP_PASSWORD": "b"}, want: Credentials{Username: "a", AppPassword: "b"}},
		"app password, Secret's keys": {keys: map[string]string{"bitbucketUsername": "a", "bitbucketAppPassword": "b"}, onlyDir: true, want: Credentials{Username: "a", AppPassword: "b"}},
		"access token":                {keys: map[string]string{"BITBUCKET_ACCESS_TOKEN": "b"}, want: Credentials{AccessToken: "b"}},
		"other kinds are empty":       {keys: map[string]string{"BITBUCKET_ACCESS_TOKEN": "b", "BITBUCKET_USERNAME": ""}, want: Credentials{AccessToken: "b"}},
		"none":                        {keys: map[string]string{"namespaces": "default"}, none: true},
		"part of a consumer":          {keys: map[string]string{"BITBUCKET_OAUTH_CLIENT_ID": "a"}, faults: []string{"bitbucketOauthClientSecret (BITBUCKET_OAUTH_CLIENT_SECRET): missing"}},
		"two kinds, one incomplete":   {keys: map[string]string{"BITBUCKET_ACCESS_TOKEN": "hush1", "ATLASSIAN_API_TOKEN": "hush2"}, faults: []string{"API token and access token are given together", "ATLASSIAN_ACCOUNT_EMAIL): missing"}},
		"line break in a token":       {keys: map[string]string{"BITBUCKET_ACCESS_TOKEN": "hush\nhush"}, faults: []string{"BITBUCKET_ACCESS_TOKEN): contains a space"}},
		"colon in a user":             {keys: map[string]string{"BITBUCKET_USERNAME": "a:hush", "BITBUCKET_APP_PASSWORD": "b"}, faults: []string{"BITBUCKET_USERNAME): contains a colon"}},
		"two names, different values": {keys: map[string]string{"BITBUCKET_ACCESS_TOKEN": "hush1", "bitbucketAccessToken": "hush2"}, onlyDir: true, faults: []string{"contain different values"}},
		"a file that is too large":    {keys: map[string]string{"bitbucketAccessToken": strings.Repeat("hush", 20000)}, onlyDir: true, faults: []string{"bitbucketAccessToken: more than"}},
	} {
		check := func(t *testing.T, got Credentials, err error) {
			t.Helper()
			if errors.Is(err, ErrNoCredentials) != tc.none || (err != nil) != (tc.none || len(tc.faults) > 0) {
				t.Errorf("error %v", err)
			}
			for _, fault := range tc.faults {
				if err != nil && !strings.Contains(err.Error(), fault) {
					t.Errorf("got %v, want it to contain %q", err, fault)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the error contains a value: %v", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error("credentials differ from those wanted")
			}
		}
		t.Run("directory/"+name, func(t *testing.T) {
			dir := t.TempDir()
			for key, value := range tc.keys {
				if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := CredentialsFromDir(dir)
			check(t, got, err)
		})
		if tc.onlyDir {
			continue
		}
		t.Run("environment/"+name, func(t *testing.T) {
			got, err := CredentialsFromEnv(func(key string) (string, bool) { v, ok := tc.keys[key]; return v, ok })
			check(t, got, err)
		})
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	_, err := NewClient(Config{
		BaseURL: "https://user:hush@api.example.com", OAuthURL: "ftp://x/y", Timeout: time.Hour, Retries: 11,
		BackoffMin: time.Minute, BackoffMax: time.Second, CABundle: []byte("none"), Transport: &http.Transport{},
	})
	if err == nil || !errors.Is(err, ErrNoCredentials) {
		t.Fatalf("got %v, want ErrNoCredentials among the faults", err)
	}
	for _, field := range []string{"BaseURL", "OAuthURL", "Credentials", "Timeout", "Retries", "BackoffMin", "CABundle: cannot", "CABundle: want"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not among the faults: %v", field, err)
		}
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("the error contains the password: %v", err)
	}
}
