package acceptance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// question is one of `kubectl auth can-i VERB RESOURCE/NAME -n NAMESPACE`.
type question struct{ Verb, Group, Resource, Name, Namespace string }

// may asks the API server's authorizer.
func may(t *testing.T, namespace, account string, q question) bool {
	t.Helper()
	resource, subresource, _ := strings.Cut(q.Resource, "/")
	review, err := shared.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   "system:serviceaccount:" + namespace + ":" + account,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: q.Verb, Group: q.Group, Resource: resource, Subresource: subresource, Name: q.Name, Namespace: q.Namespace,
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

func TestEachAccountHasExactlyItsRights(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(shared.root, "deploy", "test", "testdata", "rights.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]struct{ Allowed, Refused []question }
	if err := yaml.UnmarshalStrict(text, &expected); err != nil || len(expected) < 2 {
		t.Fatalf("%d accounts, %v", len(expected), err)
	}
	manifests := kustomized(t, "base") + "\n---\n" + kustomized(t, "examples")
	kubectl(t, manifests, "apply", "--server-side", "-f", "-")
	t.Cleanup(func() { kubectl(t, manifests, "delete", "--ignore-not-found", "-f", "-") })
	for account, questions := range expected {
		namespace, name, _ := strings.Cut(account, "/")
		for want, asked := range map[bool][]question{true: questions.Allowed, false: questions.Refused} {
			for _, q := range asked {
				if got := may(t, namespace, name, q); got != want {
					t.Errorf("%s can %+v: %v, want %v", account, q, got, want)
				}
			}
		}
	}
	// The runners' account has only the rights of every account.
	if diff := cmp.Diff(rules(t, "bitbucket-runner", "default"), rules(t, "bitbucket-runner", "bitbucket-runner")); diff != "" {
		t.Errorf("the runners' account has rights of its own:\n%s", diff)
	}
}

// rules returns everything that an account may do in its namespace, according to the API
// server.
func rules(t *testing.T, namespace, account string) []string {
	t.Helper()
	config := shared.plane.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	review, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := make([]string, 0, len(review.Status.ResourceRules))
	for _, rule := range review.Status.ResourceRules {
		found = append(found, rule.String())
	}
	slices.Sort(found)
	return found
}
