package emulator

import (
	"net/url"
	"testing"
)

func TestAWorkspaceAndARepositoryCanBeRenamedAndDeleted(t *testing.T) {
	b := start(t, Options{})
	const inWorkspace, inRepository = "/2.0/workspaces/acme/pipelines-config/runners", "/2.0/repositories/acme/app/pipelines-config/runners"
	b.register(inWorkspace, "one", "my.group")
	b.register(inRepository, "two", "my.group")
	uuid := "/2.0/workspaces/" + url.PathEscape(WorkspaceUUID) + "/pipelines-config/runners"

	b.call(204, "POST", "/_emulator/workspaces/acme/rename", `{"slug":"inc"}`)
	b.call(404, "GET", inWorkspace, "")
	b.call(404, "GET", "/2.0/workspaces/acme", "")
	if n := len(b.list(uuid).Values); n != 1 {
		t.Errorf("%d runners by the UUID of the renamed workspace, want 1", n)
	}
	b.call(200, "GET", "/2.0/repositories/inc/app", "")
	b.call(204, "POST", "/_emulator/repositories/inc/app/delete", "")
	b.call(404, "GET", "/2.0/repositories/inc/app/pipelines-config/runners", "")
	b.call(404, "GET", "/2.0/repositories/inc/app", "")
	b.call(200, "GET", "/2.0/repositories/inc/web", "")
	b.call(204, "POST", "/_emulator/workspaces/inc/delete", "")
	b.call(404, "GET", uuid, "")
	if runners := b.server.State().Runners; len(runners) != 0 {
		t.Errorf("runners are left: %+v", runners)
	}
	b.call(404, "POST", "/_emulator/workspaces/inc/delete", "")
}

func TestControlsOfScopesRefuseWhatTheyDoNotKnow(t *testing.T) {
	b := start(t, Options{})
	b.call(404, "POST", "/_emulator/workspaces/acme/close", "")
	b.call(404, "POST", "/_emulator/repositories/acme/none/delete", "")
	b.call(400, "POST", "/_emulator/workspaces/acme/rename", `{"slug":"A b"}`)
	b.call(400, "POST", "/_emulator/workspaces/acme/rename", `{"name":"x"}`)
}
