package view

import (
	"testing"

	"bitbucket-runner-scaler/externalscaler/status/api"
)

func TestABuildIsThatOfItsRepository(t *testing.T) {
	const id = "{11111111-1111-4111-8111-111111111111}"
	acme := api.Step{UUID: "{a}", Build: 5, Repository: "app", Group: "ns/acme", URL: stepURL(id, id, 5, "{a}")}
	other := api.Step{UUID: "{b}", Build: 5, Repository: "app", Group: "ns/other", URL: stepURL("{w}", "{r}", 5, "{b}")}
	unknown := api.Step{UUID: "{c}", Build: 6, Repository: "app"}
	p := &Picture{
		Groups: []api.Group{{Namespace: "ns", Name: "acme", Scope: "acme"}, {Namespace: "ns", Name: "other", Scope: "other/app"}},
		all:    []api.Step{acme, other, unknown},
	}
	for repository, want := range map[string]string{
		"app": "{a}{b}", "acme/app": "{a}", "Other/app": "{b}", "third/app": "", "acme/web": "", id + "/" + id: "{a}", id: "{a}",
	} {
		got := ""
		for _, s := range p.Build(repository, 5) {
			got += s.UUID
		}
		if got != want {
			t.Errorf("%s: steps %s, want %s", repository, got, want)
		}
	}
	if len(p.Build("acme/app", 6)) != 1 {
		t.Error("a step whose workspace is not known is left out")
	}
}
