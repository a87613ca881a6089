package kube

import (
	"bytes"
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/cert"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	// authoritySuffix ends the keys of installations.
	authoritySuffix = ".pem"
	// unnamedKey is the key of an authority that a version published that had no keys of
	// installations. Its owner recognizes it by its certificate.
	unnamedKey = "unnamed" + authoritySuffix
	// publishedPrefix and the key of an installation are the annotation that says when it
	// published last.
	publishedPrefix = partOf + "/"
	// publishedEvery is the time after which an installation renews that annotation.
	publishedEvery = 24 * time.Hour
	// goneAfter is the time after which an installation that no longer renews it counts as
	// removed. If it is not, it publishes again within a minute of its next start.
	goneAfter = 7 * 24 * time.Hour
)

// authority is what one installation has published.
type authority struct {
	bundle    string
	published time.Time
}

// authorities are those of one ConfigMap, by the key of the installation.
type authorities map[string]authority

// readAuthorities reads a ConfigMap. An authority without a readable time counts as
// published now.
func readAuthorities(configMap *corev1.ConfigMap, now time.Time) authorities {
	found := authorities{}
	for key, bundle := range configMap.Data {
		if strings.HasSuffix(key, authoritySuffix) {
			published, err := time.Parse(time.RFC3339, configMap.Annotations[publishedPrefix+key])
			if err != nil {
				published = now
			}
			found[key] = authority{bundle: bundle, published: published}
		}
	}
	if bundle := configMap.Data[runnerv1.AuthorityKey]; len(found) == 0 && bundle != "" {
		found[unnamedKey] = authority{bundle: bundle, published: now}
	}
	return found
}

// with returns the authorities with one installation's in addition.
func (a authorities) with(key string, bundle []byte, published time.Time) authorities {
	all := maps.Clone(a)
	all[key] = authority{bundle: string(bundle), published: published}
	return all
}

// without returns the authorities without those of one installation.
func (a authorities) without(key string, bundle []byte) authorities {
	others := maps.Clone(a)
	delete(others, key)
	if share(others[unnamedKey].bundle, bundle) {
		delete(others, unnamedKey)
	}
	return others
}

// withoutStale returns the authorities without those of installations that are gone:
// they have not published for long, or none of their certificates is valid any more.
func (a authorities) withoutStale(now time.Time) authorities {
	current := maps.Clone(a)
	maps.DeleteFunc(current, func(_ string, authority authority) bool {
		certificates, _ := cert.ParseCertsPEM([]byte(authority.bundle)) // none if it cannot be read
		valid := slices.ContainsFunc(certificates, func(c *x509.Certificate) bool { return now.Before(c.NotAfter) })
		return !valid || now.Sub(authority.published) > goneAfter
	})
	return current
}

// share reports whether two bundles have a certificate in common.
func share(a string, b []byte) bool {
	ones, err := cert.ParseCertsPEM([]byte(a))
	if err != nil {
		return false
	}
	others, err := cert.ParseCertsPEM(b)
	return err == nil && slices.ContainsFunc(ones, func(one *x509.Certificate) bool {
		return slices.ContainsFunc(others, func(other *x509.Certificate) bool { return bytes.Equal(one.Raw, other.Raw) })
	})
}

// writeTo replaces the authorities of a ConfigMap, and the bundle of all of them that KEDA
// and the sidecars read.
func (a authorities) writeTo(configMap *corev1.ConfigMap) {
	data, annotations := map[string]string{}, map[string]string{}
	for key, value := range configMap.Annotations {
		if !strings.HasPrefix(key, publishedPrefix) {
			annotations[key] = value
		}
	}
	var all strings.Builder
	for _, key := range slices.Sorted(maps.Keys(a)) {
		data[key] = a[key].bundle
		annotations[publishedPrefix+key] = a[key].published.UTC().Format(time.RFC3339)
		all.WriteString(strings.TrimSuffix(a[key].bundle, "\n") + "\n")
	}
	data[runnerv1.AuthorityKey] = all.String()
	configMap.Data, configMap.Annotations = data, annotations
}
