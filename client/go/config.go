package rmgrpc

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"time"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

// An Ordering says in which order a stream gives its results.
type Ordering int

const (
	// Completion gives results as they are ready.
	Completion Ordering = iota
	// Submission gives results in the order of the items; a slow item holds back those after it.
	Submission
)

// Config says which server to ask, and how. The zero value asks 127.0.0.1:50051 in the clear.
type Config struct {
	// Address is host:port or unix:path. Default: 127.0.0.1:50051.
	Address string
	// Model may be empty where the server serves only one.
	Model string
	// Options are those of every item. Default: the server's.
	Options *rmgrpcpb.ScoreOptions
	// Ordering is that of every stream's results. Default: Completion.
	Ordering Ordering
	// Timeout is the time for each item, where the item has none of its own, and for each call beside streams. Default: 600 s.
	Timeout time.Duration
	// Reconnect is how long a lost server, or one that cannot score, is tried. Default: 60 s.
	Reconnect time.Duration
	// Attempts is how often an item is tried that the server has no room for, or is lost with. Default: 20.
	Attempts int

	// TLS encrypts. It is on, too, where any of the next four is given.
	TLS bool
	// CAFile is PEM of the authorities that the server's certificate may come from. Default: the system's.
	CAFile string
	// CertFile and KeyFile are PEM of the client's own certificate and key, for servers that ask for one.
	CertFile, KeyFile string
	// ServerName is the name that the server's certificate must have. Default: the address's host.
	ServerName string
	// Token is sent with every call.
	Token Token
	// Insecure lets the token leave this machine without TLS.
	Insecure bool
}

// withDefaults fills in what was not given.
func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = "127.0.0.1:50051"
	}
	if c.Timeout == 0 {
		c.Timeout = 600 * time.Second
	}
	if c.Reconnect == 0 {
		c.Reconnect = 60 * time.Second
	}
	if c.Attempts == 0 {
		c.Attempts = 20
	}
	c.TLS = c.TLS || c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" || c.ServerName != ""
	return c
}

// check refuses values that cannot be; withDefaults comes before it.
func (c Config) check() *Error {
	host, err := c.host()
	if err != nil {
		return err
	}
	switch {
	case c.Ordering != Completion && c.Ordering != Submission:
		return invalid("ordering", "must be Completion or Submission, not %d", c.Ordering)
	case c.Timeout < 0:
		return invalid("timeout", "must not be negative, this one is %v", c.Timeout)
	case c.Reconnect < 0:
		return invalid("reconnect", "must not be negative, this one is %v", c.Reconnect)
	case c.Attempts < 0:
		return invalid("attempts", "must be 1 or more, not %d", c.Attempts)
	case c.CertFile != "" && c.KeyFile == "":
		return invalid("key_file", "goes with cert_file, which is given")
	case c.KeyFile != "" && c.CertFile == "":
		return invalid("cert_file", "goes with key_file, which is given")
	case c.Token != "" && !c.TLS && !c.Insecure && !isLocal(host):
		return invalid("token", "would go to %s without encryption; use tls, or allow it with insecure", c.Address)
	}
	return c.Token.check()
}

// host is the address's host, or empty for a Unix socket.
func (c Config) host() (string, *Error) {
	if strings.HasPrefix(c.Address, "unix:") {
		return "", nil
	}
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil || port == "" || strings.Contains(host, "/") {
		return "", invalid("address", "must be host:port or unix:path, not %q", c.Address)
	}
	return host, nil
}

// isLocal tells whether a host is this machine and can be nothing else.
func isLocal(host string) bool {
	return host == "" || host == "localhost" || net.ParseIP(host).IsLoopback()
}

// tlsConfig reads the files; nil where TLS is off.
func (c Config) tlsConfig() (*tls.Config, *Error) {
	if !c.TLS {
		return nil, nil
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, unreadable("ca_file", err)
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalid("ca_file", "%s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := c.keyPair()
		if err != nil {
			return nil, err
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	return settings, nil
}

func (c Config) keyPair() (tls.Certificate, *Error) {
	cert, err := os.ReadFile(c.CertFile)
	if err != nil {
		return tls.Certificate{}, unreadable("cert_file", err)
	}
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return tls.Certificate{}, unreadable("key_file", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, unreadable("cert_file", err)
	}
	return pair, nil
}

func unreadable(field string, cause error) *Error {
	err := invalid(field, "cannot be read: %v", cause)
	err.cause = cause
	return err
}
