package deploytest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
	"sigs.k8s.io/yaml"
)

// grant is a rule in force: who, where ("*": everywhere), and what.
type grant struct {
	subject rbacv1.Subject
	where   string
	rule    rbacv1.PolicyRule
}

// grants are the rules that bindings give to anybody. A binding of a role that is
// not among the objects is an error: what it gives is not known here.
func grants(t *testing.T, all objects) []grant {
	t.Helper()
	var found []grant
	give := func(key, where string, role rbacv1.RoleRef, subjects []rbacv1.Subject) {
		for _, subject := range subjects {
			for _, rule := range rulesOf(t, all, key, where, role) {
				found = append(found, grant{subject, where, rule})
			}
		}
	}
	for key, fields := range all {
		switch fields["kind"] {
		case "ClusterRoleBinding":
			binding := as[rbacv1.ClusterRoleBinding](t, all, key)
			give(key, "*", binding.RoleRef, binding.Subjects)
		case "RoleBinding":
			binding := as[rbacv1.RoleBinding](t, all, key)
			give(key, binding.Namespace, binding.RoleRef, binding.Subjects)
		}
	}
	return found
}

func rulesOf(t *testing.T, all objects, binding, where string, role rbacv1.RoleRef) []rbacv1.PolicyRule {
	t.Helper()
	key := role.Kind + " " + where + "/" + role.Name
	if role.Kind == "ClusterRole" {
		key = "ClusterRole /" + role.Name
		if _, ok := all[key]; ok {
			return as[rbacv1.ClusterRole](t, all, key).Rules
		}
	} else if _, ok := all[key]; ok {
		return as[rbacv1.Role](t, all, key).Rules
	}
	t.Errorf("%s gives %s, which is not here", binding, key)
	return nil
}

// lines tell a grant as a reader would: who, where, what.
func (g grant) lines() []string {
	var lines []string
	for _, group := range g.rule.APIGroups {
		for _, resource := range g.rule.Resources {
			what := strings.TrimPrefix(group+"/"+resource, "/")
			if len(g.rule.ResourceNames) > 0 {
				what += " " + strings.Join(g.rule.ResourceNames, ",")
			}
			lines = append(lines, fmt.Sprintf("%s/%s in %s: %s: %s", g.subject.Namespace, g.subject.Name, g.where, what, strings.Join(g.rule.Verbs, ",")))
		}
	}
	for _, url := range g.rule.NonResourceURLs {
		lines = append(lines, fmt.Sprintf("%s/%s: %s: %s", g.subject.Namespace, g.subject.Name, url, strings.Join(g.rule.Verbs, ",")))
	}
	return lines
}

const scaler = controlPlane + "/" + name

// needed is every right that anybody has, with what it is for.
var needed = map[string]string{
	scaler + " in *: keda.sh/scaledjobs: get,list,watch":                                                      "which groups there are",
	scaler + " in *: keda.sh/scaledjobs: patch":                                                               "an annotation makes KEDA look again",
	scaler + " in *: batch/jobs: get,list,watch,delete":                                                       "what KEDA made of them; stuck and unwanted ones are deleted",
	scaler + " in *: pods: get,list,watch":                                                                    "which runner still has a pod",
	scaler + " in *: authentication.k8s.io/tokenreviews: create":                                              "who a sidecar is",
	scaler + " in *: events: list":                                                                            "why a Job has no pod is only in an Event",
	scaler + " in *: events: create,patch":                                                                    "each removal is reported as an Event",
	scaler + " in *: events.k8s.io/events: create,patch":                                                      "each removal is reported as an Event",
	scaler + " in *: configmaps: create":                                                                      "publishes its authority; a right to create cannot name",
	scaler + " in *: configmaps bitbucket-runner-scaler-ca: get,list,update,delete":                           "publishes its authority",
	scaler + " in *: namespaces kube-system: get":                                                             "its UID tells clusters apart",
	scaler + " in " + controlPlane + ": configmaps: create":                                                   "the scopes with runners",
	scaler + " in " + controlPlane + ": configmaps bitbucket-runner-scaler-scopes: get,update":                "the scopes with runners",
	scaler + " in " + controlPlane + ": configmaps bitbucket-runner-scaler-places: get":                       "the same before version 0.1.0",
	scaler + " in " + controlPlane + ": coordination.k8s.io/leases: create":                                   "who leads",
	scaler + " in " + controlPlane + ": coordination.k8s.io/leases bitbucket-runner-scaler: get,watch,update": "who leads",
	scaler + " in " + controlPlane + ": pods: list,patch":                                                     "the label that leads the Service to the leader",
	scaler + " in " + controlPlane + ": secrets: create":                                                      forCertificates,
	scaler + " in " + controlPlane + ": secrets bitbucket-runner-scaler-tls: get,update":                      forCertificates,
}

const forCertificates = "the certificates that it makes itself"

func TestNobodyMayDoMoreThanIsNeeded(t *testing.T) {
	for installation, all := range everyInstallation(t) {
		t.Run(installation, func(t *testing.T) {
			var want, got []string
			for line, why := range needed {
				if why != forCertificates || !strings.HasSuffix(installation, "user-tls") {
					want = append(want, line)
				}
			}
			for _, g := range grants(t, all) {
				got = append(got, g.lines()...)
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rights: needed -, given +:\n%s", diff)
			}
		})
	}
}

// question is one of `kubectl auth can-i VERB RESOURCE [NAME] -n NAMESPACE`.
type question struct{ Verb, Group, Resource, Name, Namespace string }

// expectation is what an account may do and what it must not.
type expectation struct{ Allowed, Refused []question }

// asked reads what is expected of an account.
func asked(t *testing.T, account string) expectation {
	t.Helper()
	text, err := os.ReadFile("testdata/rights.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]expectation
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		t.Fatal(err)
	}
	expected, ok := all[account]
	if !ok || len(expected.Refused) == 0 {
		t.Fatalf("nothing is expected of %s", account)
	}
	return expected
}

// can answers as the API server's own RBAC does, by the code with which it decides
// whether one set of rules covers another.
func can(given []grant, namespace, account string, q question) bool {
	asked := rbacv1.PolicyRule{Verbs: []string{q.Verb}, APIGroups: []string{q.Group}, Resources: []string{q.Resource}}
	if q.Name != "" {
		asked.ResourceNames = []string{q.Name}
	}
	var rules []rbacv1.PolicyRule
	for _, g := range given {
		mine := g.subject.Kind == rbacv1.ServiceAccountKind && g.subject.Namespace == namespace && g.subject.Name == account ||
			g.subject.Kind == rbacv1.GroupKind // a binding to a group is meant for many
		if mine && (g.where == "*" || g.where == q.Namespace) {
			rules = append(rules, g.rule)
		}
	}
	yes, _ := validation.Covers(rules, []rbacv1.PolicyRule{asked})
	return yes
}

func TestWhatTheScalerCanAndCannotDo(t *testing.T) {
	given := map[string][]grant{}
	for installation, all := range everyInstallation(t) {
		given[installation] = grants(t, all)
	}
	for want, questions := range map[bool][]question{true: asked(t, scaler).Allowed, false: asked(t, scaler).Refused} {
		for _, q := range questions {
			for installation, grants := range given {
				expected := want
				if strings.HasSuffix(installation, "user-tls") && q.Resource == "secrets" {
					expected = false // its certificates are mounted too
				}
				if got := can(grants, controlPlane, name, q); got != expected {
					t.Errorf("%s: can %+v: %v, want %v", installation, q, got, expected)
				}
			}
		}
	}
}

func TestARunnersAccountCanDoNothing(t *testing.T) {
	for _, dir := range []string{"examples", "overlays/network-policy"} {
		all := kustomized(t, dir)
		given := grants(t, all)
		for _, g := range given {
			if g.subject.Namespace == runners || g.subject.Kind != rbacv1.ServiceAccountKind {
				t.Errorf("%s: %v", dir, g.lines())
			}
		}
		account, ok := all["ServiceAccount "+runners+"/"+runners]
		if !ok || account["automountServiceAccountToken"] != false {
			t.Errorf("%s: the runners' account is %v, want one whose token is not mounted by itself", dir, account)
		}
		for _, q := range asked(t, runners+"/"+runners).Refused {
			if can(given, runners, runners, q) {
				t.Errorf("%s: a runner can %+v", dir, q)
			}
		}
	}
}
