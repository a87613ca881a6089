package emulator_test

import (
	"testing"
	"fmt"
	"errors"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func TestInterop(t *testing.T) {
	url, s := emulator.NewTestServer(t, emulator.Options{})
	c, err := bitbucket.NewClient(bitbucket.Config{BaseURL: url, OAuthURL: url + "/site/oauth2/access_token", Credentials: bitbucket.Credentials{OAuthClientID: "emulator-client", OAuthClientSecret: "emulator-secret"}})
	if err != nil { t.Fatal(err) }
	defer c.Close()
	scope, err := c.ResolveScope(t.Context(), bitbucket.Scope{Workspace: "acme", Repository: "app"})
	fmt.Println(scope, err)
	for i := range 100 {
		if _, err := c.CreateRunner(t.Context(), scope, bitbucket.NewRunner{Name: fmt.Sprint("r", i), Labels: []string{"self.hosted", "linux", "a.b"}}); err != nil { t.Fatal(err) }
	}
	_, err = c.CreateRunner(t.Context(), scope, bitbucket.NewRunner{Name: "r", Labels: []string{"self.hosted"}})
	fmt.Println(err, errors.Is(err, bitbucket.ErrRunnerLimit))
	l, err := c.ListRunners(t.Context(), scope)
	fmt.Println(len(l.Runners), l.ServerDate, err)
	fmt.Println(c.DisableRunner(t.Context(), scope, l.Runners[0].UUID), c.DeleteRunner(t.Context(), scope, l.Runners[0].UUID))
	fmt.Println(s.State().Counters)
}
