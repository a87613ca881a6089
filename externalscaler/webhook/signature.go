package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

// keysAge is how long secrets are used before they are read again. A Secret that changes
// takes longer to reach its mount.
const keysAge = time.Second

// keys are the secrets of all credentials sets, which change without a restart.
type keys struct {
	secrets Secrets
	clock   clock.PassiveClock
	log     *zap.Logger

	mu     sync.Mutex
	read   time.Time
	sets   []credentials.Webhook
	fault  string
	warned bool // that there are none
}

func newKeys(secrets Secrets, clock clock.PassiveClock, log *zap.Logger) *keys {
	return &keys{secrets: secrets, clock: clock, log: log}
}

// current returns the sets with their secrets. Faults are logged when they change.
func (k *keys) current() []credentials.Webhook {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock.Now()
	if !k.read.IsZero() && now.Sub(k.read) < keysAge {
		return k.sets
	}
	sets, err := k.secrets.Webhooks()
	k.read, k.sets = now, sets
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	if fault != "" && fault != k.fault {
		k.log.Error("a webhook's secret cannot be used", zap.Error(err))
	}
	if len(sets) == 0 && !k.warned {
		k.log.Warn("no credentials set has the key " + credentials.WebhookSecretKey + ": every webhook delivery is refused")
	}
	k.fault, k.warned = fault, len(sets) == 0
	return sets
}

// signatureOf returns the HMAC in the header of a delivery.
func signatureOf(header http.Header) (signature []byte, ok bool) {
	digits, ok := strings.CutPrefix(header.Get("X-Hub-Signature"), "sha256=")
	if !ok || len(digits) != hex.EncodedLen(sha256.Size) {
		return nil, false
	}
	signature, err := hex.DecodeString(digits)
	return signature, err == nil
}

// signers returns the sets with a secret that signs a body. Each secret is tried once, even
// if several sets have it, and the comparisons take the same time for each wrong signature.
func (k *keys) signers(body, signature []byte) (signers []credentials.Webhook) {
	tried := map[bitbucket.Secret]bool{}
	for _, set := range k.current() {
		signs := false
		for _, secret := range set.Secrets {
			good, known := tried[secret]
			if !known {
				mac := hmac.New(sha256.New, []byte(secret.Reveal()))
				mac.Write(body)
				good = hmac.Equal(mac.Sum(nil), signature)
				tried[secret] = good
			}
			signs = signs || good
		}
		if signs {
			signers = append(signers, set)
		}
	}
	return signers
}
