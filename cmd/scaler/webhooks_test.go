package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHowTheListenerForWebhooksIsSecured(t *testing.T) {
	certificate, key := selfSigned(t)
	for name, c := range map[string]struct {
		args []string
		want string // part of the error; empty for none
	}{
		"no listener":                {nil, ""},
		"plain":                      {[]string{"--webhook-listen", ":9443"}, ""},
		"files":                      {[]string{"--webhook-listen", ":9443", "--webhook-tls", certificate + "," + key}, ""},
		"a word":                     {[]string{"--webhook-listen", ":9443", "--webhook-tls", "auto"}, `--webhook-tls: "auto", want off or CERT,KEY`},
		"a missing key":              {[]string{"--webhook-listen", ":9443", "--webhook-tls", certificate + ",/nonexistent/key"}, "--webhook-tls: stat /nonexistent/key"},
		"files without a listener":   {[]string{"--webhook-tls", certificate + "," + key}, "--webhook-tls: needs --webhook-listen"},
		"an address without a colon": {[]string{"--webhook-listen", "9443"}, `--webhook-listen: "9443", want host:port or :port`},
	} {
		_, err := parse(append([]string{"--namespace", "ns", "--pod-name", "p"}, c.args...), empty)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestDeliveriesOverTLS(t *testing.T) {
	certificate, key := selfSigned(t)
	for _, form := range []string{"off", certificate + "," + key} {
		listener, end, err := listenForWebhooks(context.Background(), config{webhookListen: "127.0.0.1:0", webhookTLS: form})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.Server{Listener: listener, Config: &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}}
		server.Start()
		scheme := "http://"
		roots := x509.NewCertPool()
		if form != "off" {
			scheme = "https://"
			text, _ := os.ReadFile(certificate)
			roots.AppendCertsFromPEM(text)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
		resp, err := client.Get(scheme + listener.Addr().String())
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		server.Close()
		end()
	}
	if listener, end, err := listenForWebhooks(context.Background(), config{webhookTLS: "off"}); listener != nil || err != nil {
		t.Errorf("got %v, %v, want none", listener, err)
	} else {
		end()
	}
}

// selfSigned returns the files of a certificate for 127.0.0.1 and of its key.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: text}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}
