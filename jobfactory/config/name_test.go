package config

import (
	"regexp"
	"testing"
)

func TestNamesInAnyScriptBecomeNamesOfObjects(t *testing.T) {
	for text, want := range map[string]string{
		"Runner group 1": "^runner-group-1$", "Bücher & Café": "^bucher-cafe$", "Сборка": "^group-[0-9a-f]{8}$", "ビルド 2": "^2-[0-9a-f]{8}$",
		"Straße": "^stra-e-[0-9a-f]{8}$", "---": "^$", "٣": "^group-[0-9a-f]{8}$",
	} {
		if got := objectName(text); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q, want %s", text, got, want)
		}
	}
	if objectName("Сборка") == objectName("Сборки") {
		t.Error("two names become one")
	}
}
