package deploytest

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// helmLabels are those that only a release of Helm has.
var helmLabels = []string{"helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"}

// withoutHelm returns the objects of a release as an overlay has them: without the labels of
// Helm, without any on objects to which kustomize gives none, and without Helm's tests.
func withoutHelm(all objects) objects {
	plain := objects{}
	for key, fields := range all {
		if isHook(fields) {
			continue
		}
		fields := without(fields, helmLabels).(object)
		meta := fields["metadata"].(object)
		switch labels, _ := meta["labels"].(object); fields["kind"] {
		case "Secret":
			delete(meta, "labels")
		case "ConfigMap":
			if labels["grafana_dashboard"] == nil {
				delete(meta, "labels")
			}
		case "Namespace":
			delete(labels, "app.kubernetes.io/name")
		}
		plain[key] = fields
	}
	return plain
}

// isHook reports whether Helm applies the object at another time than the others.
func isHook(fields object) bool {
	annotations, _ := fields["metadata"].(object)["annotations"].(object)
	return annotations["helm.sh/hook"] != nil
}

// without returns a copy of a value in which no object has one of the keys.
func without(value any, keys []string) any {
	switch v := value.(type) {
	case object:
		left := object{}
		for key, field := range v {
			if !slices.Contains(keys, key) {
				left[key] = without(field, keys)
			}
		}
		return left
	case []any:
		left := make([]any, len(v))
		for i, item := range v {
			left[i] = without(item, keys)
		}
		return left
	default:
		return v
	}
}

// eachObject calls visit with each object within a value.
func eachObject(value any, visit func(object)) {
	switch v := value.(type) {
	case object:
		visit(v)
		for _, field := range v {
			eachObject(field, visit)
		}
	case []any:
		for _, item := range v {
			eachObject(item, visit)
		}
	}
}

// labelsOf returns the labels of an object.
func labelsOf(fields object) object {
	labels, _ := fields["metadata"].(object)["labels"].(object)
	return labels
}

func TestEveryObjectOfAReleaseHasTheStandardLabels(t *testing.T) {
	all, _, err := charted(controlPlane, parsed(t, everything))
	if err != nil {
		t.Fatal(err)
	}
	for key, fields := range all {
		labels := labelsOf(fields)
		for label, want := range map[string]string{
			"app.kubernetes.io/instance": name, "app.kubernetes.io/part-of": name, "app.kubernetes.io/managed-by": "Helm", "team": "platform",
		} {
			if labels[label] != want {
				t.Errorf("%s: %s is %v, want %s", key, label, labels[label], want)
			}
		}
		for _, label := range []string{"app.kubernetes.io/name", "app.kubernetes.io/version", "helm.sh/chart"} {
			if labels[label] == nil {
				t.Errorf("%s has no label %s", key, label)
			}
		}
	}
}

// TestSelectorsAreStable upgrades to another version with other labels, which must not change
// a selector: a Deployment's cannot be changed.
func TestSelectorsAreStable(t *testing.T) {
	want := map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/instance": name}
	for _, values := range []string{"{}", "{commonLabels: {team: a}, podLabels: {team: b}, image: {repository: x, tag: v2}}"} {
		all, _, err := charted(controlPlane, parsed(t, values))
		if err != nil {
			t.Fatal(err)
		}
		deployment := as[appsv1.Deployment](t, all, "Deployment "+controlPlane+"/"+name)
		if got := deployment.Spec.Selector.MatchLabels; !maps.Equal(got, want) {
			t.Errorf("it selects %v, want %v", got, want)
		}
		for label, value := range want {
			if deployment.Spec.Template.Labels[label] != value {
				t.Errorf("the pods have no label %s=%s", label, value)
			}
		}
		for _, constraint := range deployment.Spec.Template.Spec.TopologySpreadConstraints {
			if got := constraint.LabelSelector.MatchLabels; !maps.Equal(got, want) {
				t.Errorf("replicas are spread among %v, want %v", got, want)
			}
		}
	}
}

// everything turns on all that the chart has.
const everything = `
namespace: {create: true}
commonLabels: {team: platform}
webhook: {enabled: true, host: runners.example.com}
ingress: {enabled: true}
httpRoute: {enabled: true, parentRefs: [{name: mine, namespace: gateways}]}
podMonitor: {enabled: true}
prometheusRule: {enabled: true}
dashboard: {enabled: true}
tls: {mode: certManager, issuer: {name: mine}}
traces: {endpoint: "http://collector:4318"}
networkPolicy: {enabled: true}
proxy: {url: "http://proxy:3128"}
caBundle: PEM
credentials: {default: {existingSecret: mine}, team: {accessToken: t, namespaces: [team]}}
`

// usualName finds the usual full name, or the usual release, where an object or a pod is
// meant by it: the product, its files and its namespace have the same name.
var usualName = regexp.MustCompile(`(?m)(^|: )(name|secretName|serviceAccountName|policyName|resourceNames|app\.kubernetes\.io/instance): ` + name + `(-[a-z]+)?$` +
	`|"` + controlPlane + `/` + name + `"|:` + name + `"|^` + name + `$|(^|: )` + name + `(-scopes|-tls|-places|\.)`)

// ofNobody finds names that both may have: the authorities' ConfigMap, in which each has a key,
// and what is within an object of its own.
var ofNobody = regexp.MustCompile(`resourceNames: ` + name + `-ca|: ` + name + `\.json|groups: name: ` + name)

// TestReleasesStandSideBySide installs everything twice into one namespace.
func TestReleasesStandSideBySide(t *testing.T) {
	first, _, err := charted(controlPlane, parsed(t, everything))
	if err != nil {
		t.Fatal(err)
	}
	shared := map[string]bool{"Namespace /" + controlPlane: true}
	for way, c := range map[string]struct{ release, values, fullname string }{
		"another release":     {"second", "", "second-" + name},
		"the name in it":      {"ci-" + name, "", "ci-" + name},
		"a name for the rest": {"second", "nameOverride: runners\n", "second-runners"},
		"a full name":         {"second", "fullnameOverride: runners\n", "runners"},
		"its own certificate": {"second", "tls: {mode: auto}\n", "second-" + name},
	} {
		t.Run(way, func(t *testing.T) {
			values := parsed(t, everything)
			maps.Copy(values, parsed(t, cmp.Or(c.values, "{}")))
			second, notes, err := released(c.release, controlPlane, values)
			if err != nil {
				t.Fatal(err)
			}
			typed(t, second)
			for key, fields := range second {
				if shared[key] {
					continue
				}
				if _, both := first[key]; both {
					t.Errorf("%s belongs to both", key)
				}
				eachObject(fields, func(labels object) {
					if of := labels["app.kubernetes.io/name"]; of != nil && of != runners && labels["app.kubernetes.io/instance"] != c.release {
						t.Errorf("%s has or selects the labels %v, which the first has too", key, labels)
					}
				})
				if text := ofNobody.ReplaceAllString(flat(fields), ""); usualName.MatchString(text) {
					t.Errorf("%s names what belongs to the first: %s", key, usualName.FindString(text))
				}
			}
			deployment := as[appsv1.Deployment](t, second, "Deployment "+controlPlane+"/"+c.fullname)
			if args := deployment.Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, "--service="+c.fullname) {
				t.Errorf("the scaler does not learn its name: %q", args)
			}
			if !strings.Contains(notes, c.fullname+"."+controlPlane+".svc.cluster.local:9090") || !strings.Contains(notes, "scaler_address") || !strings.Contains(notes, "--scaler "+controlPlane+"/"+c.fullname) {
				t.Errorf("notes:\n%s", notes)
			}
		})
	}
}
