package handbook

import (
	"testing"
)

// journey is a reader with the documentation's pages.
type journey struct {
	*reader
	pages map[place][]string
	image string // the product's, in the registry
	other string // a runner of the incumbent's, by UUID
	close func() // ends what was raised for all stages
}

func (j *journey) block(t *testing.T, page, title string, index int) string {
	t.Helper()
	all := j.pages[place{page, title}]
	if index >= len(all) {
		t.Fatalf("%s, %s: no block %d", page, title, index)
	}
	return all[index]
}

// TestLongDocumentationIsCorrect follows the documentation: the first look, an installation
// with the user's own overlay and its maintenance, one with deploy/'s overlays, two with
// Helm, and those of the quickstart from a release, each of which is removed again, and
// everything that needs no cluster.
func TestLongDocumentationIsCorrect(t *testing.T) {
	j := &journey{reader: newReader(t), pages: blocks(t), close: func() {}}
	defer func() { j.close() }()
	j.image = j.registry + "/bitbucket-runner-scaler"
	for _, stage := range []struct {
		name string
		play func(*testing.T)
	}{
		{"the first look", j.firstLook},
		{"the emulator", j.tryEmulator},
		{"a configuration", j.configure},
		{"Bitbucket in the cluster", j.raiseBitbucket},
		{"the image", j.buildImage},
		{"the runners-autoscaler", j.installIncumbent},
		{"an installation", j.install},
		{"its operation", j.operate},
		{"a look at it", j.observe},
		{"its webhooks", j.webhooks},
		{"migrating to it", j.migrate},
		{"the end of the runners-autoscaler", j.deleteIncumbent},
		{"its end", j.takeAway},
		{"an overlay with components", j.overlay},
		{"nodes of its own", j.nodes},
		{"the overlay's end", j.uninstall},
		{"Helm", j.helm},
		{"credentials", j.check},
		{"Helm's end", j.uninstallHelm},
		{"Helm with runner groups", j.helmWithGroups},
		{"the end of both", j.uninstallHelm},
		{"the quickstart", j.quickstart},
		{"the end of the release", j.uninstallHelm},
		{"the quickstart with kustomize", j.quickstartWithKustomize},
	} {
		if !t.Run(stage.name, stage.play) {
			t.FailNow()
		}
	}
}
