package handbook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bitbucket-runner-scaler/e2e/installation"
)

// webhooks sets up a webhook, delivers in Bitbucket's place, which does not reach the cluster,
// and replaces the secret.
func (j *journey) webhooks(t *testing.T) {
	const page = "docs/webhooks.md"
	sets := t.TempDir()
	write(t, sets, "default/bitbucketOauthClientId", "emulator-client")
	write(t, sets, "default/bitbucketOauthClientSecret", "emulator-secret")
	write(t, sets, "default/namespaces", "bitbucket-runner")
	at := "export RUNNERCTL_BITBUCKET_URL=" + j.url + " RUNNERCTL_BITBUCKET_OAUTH_URL=" + j.url + "/site/oauth2/access_token RUNNERCTL_CREDENTIALS_DIR=" + sets + "\n"

	j.types(t, j.block(t, page, "The listener", 0))
	j.types(t, rollout)
	printed := j.types(t, at+j.block(t, page, "At Bitbucket", 0))
	for _, want := range []string{"acme: would create the webhook", "acme: created the webhook"} {
		if !strings.Contains(printed, want) {
			t.Errorf("%q is not in\n%s", want, printed)
		}
	}
	j.types(t, j.block(t, page, "The secret", 0))
	j.untilDelivered(t, "webhook.secret", http.StatusAccepted)
	if shown := j.types(t, j.block(t, page, "Look", 0)); !strings.Contains(shown, `outcome="accepted"`) {
		t.Errorf("no delivery is counted:\n%s", shown)
	}
	j.types(t, j.block(t, page, "Replacing the secret", 0))
	j.untilDelivered(t, "next.secret", http.StatusAccepted)
	j.untilDelivered(t, "webhook.secret", http.StatusAccepted)
	if printed := j.types(t, at+j.block(t, page, "Replacing the secret", 1)); !strings.Contains(printed, "acme: changed the webhook") {
		t.Errorf("the secret is not replaced:\n%s", printed)
	}
	j.untilDelivered(t, "webhook.secret", http.StatusUnauthorized)
	j.untilDelivered(t, "next.secret", http.StatusAccepted)
	j.types(t, at+"runnerctl webhooks remove --workspace acme --url https://runners.example.com/webhooks/bitbucket --yes")
}

// untilDelivered delivers a push, signed with the secret of a file, until the answer has a
// status.
func (j *journey) untilDelivered(t *testing.T, file string, status int) {
	t.Helper()
	secret, err := os.ReadFile(filepath.Join(j.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"repository":{"full_name":"acme/app"}}`
	sum := hmac.New(sha256.New, secret)
	sum.Write([]byte(body))
	j.until(t, fmt.Sprintf("a delivery with %s to get %d", file, status), func() (bool, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		address, ended, err := j.kube.Forward(ctx, installation.ControlPlane, "service/"+installation.Scaler+"-webhook", "8090")
		if err != nil {
			return false, err
		}
		defer func() { cancel(); ended() }()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/webhooks/bitbucket", strings.NewReader(body))
		if err != nil {
			return false, err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Event-Key", "repo:push")
		r.Header.Set("X-Hub-Signature", "sha256="+hex.EncodeToString(sum.Sum(nil)))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false, err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			return false, fmt.Errorf("status %d", resp.StatusCode)
		}
		return true, nil
	})
}
