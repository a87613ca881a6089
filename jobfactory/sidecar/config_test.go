package sidecar

import (
	"strings"
	"testing"
)

func TestValidateReportsEveryFault(t *testing.T) {
	err := Config{ScalerAddress: "scaler", TLS: "auto", Dir: "run"}.Validate()
	for _, want := range []string{`scaler-address: "scaler"`, `tls: "auto"`, `token-file: ""`, `dir: "run"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %s", err, want)
		}
	}
}
