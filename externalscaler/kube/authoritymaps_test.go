package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/cert"
	clocktesting "k8s.io/utils/clock/testing"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// anAuthority returns the certificate of a new authority, in PEM. It is valid for ten years.
func anAuthority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "authority"}, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := cert.EncodeCertificates(authority)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sharedCluster is a cluster in which several installations publish.
type sharedCluster struct {
	*testing.T
	*Cluster
	client *fake.Clientset
	clock  *clocktesting.FakeClock
}

func clusterWith(t *testing.T, objects ...runtime.Object) *sharedCluster {
	t.Helper()
	c, client := watch(t, objects)
	return &sharedCluster{T: t, Cluster: c, client: client, clock: clocktesting.NewFakeClock(time.Now())}
}

func (c *sharedCluster) installation(owner string) AuthorityMaps {
	return c.AuthorityMaps(owner, c.clock)
}

func (c *sharedCluster) publish(a AuthorityMaps, namespace, bundle string) {
	c.Helper()
	if err := a.Publish(c.Context(), namespace, []byte(bundle)); err != nil {
		c.Fatal(err)
	}
}

func (c *sharedCluster) withdraw(a AuthorityMaps, namespace, bundle string) {
	c.Helper()
	if err := a.Withdraw(c.Context(), namespace, []byte(bundle)); err != nil {
		c.Fatal(err)
	}
}

func (c *sharedCluster) publishedIn(a AuthorityMaps, bundle string, want ...string) {
	c.Helper()
	got, err := a.Published(c.Context(), []byte(bundle))
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		c.Errorf("published in %v, %v, want %v", got, err, want)
	}
}

// trusts checks what KEDA and the sidecars read in a namespace; empty if nothing.
func (c *sharedCluster) trusts(namespace, want, when string) {
	c.Helper()
	all, err := c.client.CoreV1().ConfigMaps(namespace).List(c.Context(), metav1.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	got := ""
	for i := range all.Items {
		got = all.Items[i].Data["ca.crt"]
	}
	if got != want {
		c.Errorf("%s: %s trusts\n%q, want\n%q", when, namespace, got, want)
	}
}

func TestPublishReplacesOnlyOurConfigMaps(t *testing.T) {
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "theirs", Name: runnerv1.AuthorityConfigMap}, Data: map[string]string{"ca.crt": "theirs"}}
	c := clusterWith(t, theirs)
	ours, one, two := c.installation("keda.k8s.1"), anAuthority(t), anAuthority(t)
	for _, bundle := range []string{one, two, two} {
		c.publish(ours, "team", bundle)
		c.trusts("team", bundle, "published")
	}
	if err := ours.Publish(t.Context(), "theirs", []byte(one)); !errors.Is(err, errNotOurs) {
		t.Errorf("someone else's: got %v", err)
	}
	c.publishedIn(ours, two, "team")
	for _, namespace := range []string{"team", "theirs", "none"} {
		c.withdraw(ours, namespace, two)
	}
	c.trusts("team", "", "withdrawn")
	c.trusts("theirs", "theirs", "withdrawn")
}

func TestInstallationsShareANamespaceAndWithdrawOnlyTheirOwn(t *testing.T) {
	c := clusterWith(t)
	one, two := c.installation("keda.k8s.1"), c.installation("keda.k8s.2")
	first, second := anAuthority(t), anAuthority(t)
	c.publish(one, "shared", first)
	c.publish(two, "shared", second)
	c.publish(two, "second's", second)
	c.publish(one, "shared", first) // its next look leaves the other's
	c.trusts("shared", first+second, "both published")
	c.publishedIn(one, first, "shared")
	c.withdraw(one, "second's", first)
	c.withdraw(one, "shared", first)
	c.trusts("shared", second, "the first withdrawn")
	c.trusts("second's", second, "the first withdrawn")
	c.withdraw(two, "shared", second)
	c.trusts("shared", "", "both withdrawn")
}

func TestAnAuthorityOfAnOlderVersionIsItsOwners(t *testing.T) {
	first, second := anAuthority(t), anAuthority(t)
	old := func(namespace string) runtime.Object {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: runnerv1.AuthorityConfigMap, Labels: map[string]string{partOfKey: partOf}},
			Data:       map[string]string{"ca.crt": first},
		}
	}
	c := clusterWith(t, old("left"), old("team"), old("shared"))
	one, two := c.installation("keda.k8s.1"), c.installation("keda.k8s.2")
	// The other installation neither withdraws nor replaces it.
	c.publishedIn(two, second)
	c.withdraw(two, "team", second)
	c.trusts("team", first, "withdrawn by another")
	c.publish(two, "shared", second)
	c.trusts("shared", second+first, "published by another")
	// Its owner does, after an upgrade.
	c.publishedIn(one, first, "left", "shared", "team")
	c.publish(one, "shared", first)
	c.trusts("shared", first+second, "published by its owner")
	c.withdraw(one, "left", first)
	c.trusts("left", "", "withdrawn by its owner")
}

func TestTheAuthorityOfARemovedInstallationIsNotTrustedForever(t *testing.T) {
	c := clusterWith(t)
	one, gone := c.installation("keda.k8s.1"), c.installation("keda.k8s.2")
	first, second := anAuthority(t), anAuthority(t)
	c.publish(one, "shared", first)
	c.publish(gone, "shared", second)
	c.publish(gone, "left", second)
	for day := range 14 {
		c.clock.Step(24 * time.Hour)
		if day == 2 {
			c.publish(gone, "shared", second) // its last day
			c.publish(gone, "left", second)
		}
		c.publish(one, "shared", first)
		left, err := one.Published(t.Context(), []byte(first))
		if err != nil {
			t.Fatal(err)
		}
		if day < 9 {
			c.trusts("shared", first+second, "it may still be there")
		}
		for _, namespace := range left {
			if namespace != "shared" { // a Publisher withdraws from what it does not need
				c.withdraw(one, namespace, first)
			}
		}
	}
	c.trusts("shared", first, "removed for eleven days")
	c.trusts("left", "", "removed for eleven days")
	c.publish(gone, "shared", second) // it was only switched off
	c.trusts("shared", first+second, "started again")
}

func TestAnExpiredAuthorityIsNotKept(t *testing.T) {
	c := clusterWith(t)
	one, other := c.installation("keda.k8s.1"), c.installation("keda.k8s.2")
	first, expired := anAuthority(t), anAuthority(t)
	c.clock.Step(11 * 365 * 24 * time.Hour)
	c.publish(other, "shared", expired)
	c.publish(one, "shared", first)
	c.trusts("shared", first, "the other's has expired")
}

func TestAConfigMapThatIsCurrentIsNotWritten(t *testing.T) {
	c := clusterWith(t)
	one, first := c.installation("keda.k8s.1"), anAuthority(t)
	c.publish(one, "team", first)
	for range 20 {
		c.clock.Step(time.Hour)
		c.publish(one, "team", first)
	}
	if slices.ContainsFunc(c.client.Actions(), func(action clienttesting.Action) bool { return action.GetVerb() == "update" }) {
		t.Error("it was written again within a day")
	}
}
