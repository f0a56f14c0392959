package rmgrpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSettingsThatCannotBe(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "no.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := noPEM + ".missing"
	for field, configs := range map[string][]Config{
		"address":   {{Address: "here"}, {Address: "http://here:1"}, {Address: "here:"}},
		"ordering":  {{Ordering: 2}},
		"timeout":   {{Timeout: -1}},
		"reconnect": {{Reconnect: -1}},
		"attempts":  {{Attempts: -1}},
		"ca_file":   {{CAFile: noPEM}, {CAFile: missing}},
		"cert_file": {{KeyFile: noPEM}, {CertFile: noPEM, KeyFile: noPEM}, {CertFile: missing, KeyFile: noPEM}},
		"key_file":  {{CertFile: noPEM}, {CertFile: noPEM, KeyFile: missing}},
		"token": {
			{Token: "secret", Address: "rewards.test:1"},
			{Token: "secret", Address: "localhost.rewards.test:1"},
			{Token: "secret", Address: "192.0.2.1:1"},
			{Token: "secret", Address: "[2001:db8::1]:1"},
			{Token: "two secrets"},
			{Token: "secret\n"},
		},
	} {
		for _, config := range configs {
			_, err := NewClient(config)
			var typed *Error
			if !errors.As(err, &typed) || typed.Field != field || typed.Reason != ReasonInvalidRequest {
				t.Errorf("%+v: got %v", config, err)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("the token stands in %v", err)
			}
		}
	}
}

func TestMissingFileIsTheCause(t *testing.T) {
	_, err := NewClient(Config{CAFile: filepath.Join(t.TempDir(), "missing")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestWhereATokenMayGo(t *testing.T) {
	for _, config := range []Config{
		{},
		{Address: "localhost:1"},
		{Address: "127.1.2.3:1"},
		{Address: "[::1]:1"},
		{Address: "unix:/nowhere"},
		{Address: "192.0.2.1:1", Insecure: true},
		{Address: "192.0.2.1:1", TLS: true},
		{Address: "192.0.2.1:1", ServerName: "rewards.test"},
	} {
		config.Token = "secret"
		clientOf(t, config)
	}
}

func TestDefaults(t *testing.T) {
	config := Config{}.withDefaults()
	expect(t, "address", config.Address, "127.0.0.1:50051")
	expect(t, "timeout", config.Timeout, 600*time.Second)
	expect(t, "reconnect", config.Reconnect, 60*time.Second)
	expect(t, "attempts", config.Attempts, 20)
	expect(t, "tls", config.TLS, false)
}

func TestTokensAreNeverPrinted(t *testing.T) {
	config := Config{Token: "secret"}
	client := clientOf(t, config)
	written, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{
		fmt.Sprintf("%v %+v %#v %s %q %x", config.Token, config, config, config.Token, config.Token, config.Token),
		fmt.Sprintf("%v %+v %#v", newBearer("secret", true), newBearer("secret", true), newBearer("secret", true)),
		fmt.Sprint(client), fmt.Sprintf("%+v", client), fmt.Sprintf("%#v", client),
		string(written),
	} {
		if strings.Contains(printed, "secret") || strings.Contains(printed, fmt.Sprintf("%x", "secret")) {
			t.Errorf("the token stands in %s", printed)
		}
	}
}
