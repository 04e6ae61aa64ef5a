package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	ordersv1 "github.com/grpcsteady/steady/examples/quickstart/orders/v1"

	"github.com/grpcsteady/steady/healthsvc"
)

// run serves until ctx ends, and tells the addresses once it listens.
func run(ctx context.Context, c config, listening func(grpc, http string)) error {
	db, err := openOrders(ctx, c.dir)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // what was written is committed

	opts := []healthsvc.Option{
		healthsvc.WithObserver(healthsvc.SlogObserver(nil)),
		healthsvc.WithDrainWait(c.drainWait),
		// A ping of SQLite opens the file and no more. The check asks what a call would ask.
		healthsvc.WithCheck("database", healthsvc.Func(func(ctx context.Context) error {
			var n int
			return db.QueryRowContext(ctx, "SELECT count(*) FROM orders").Scan(&n)
		}), healthsvc.Every(c.every)),
		healthsvc.WithCheck("disk", healthsvc.DiskFree(c.disk, healthsvc.Bytes(c.diskFree)), healthsvc.Every(c.every), healthsvc.Degrading()),
		healthsvc.WithService(ordersv1.Orders_ServiceDesc.ServiceName, "database"),
		healthsvc.WithService("storage", "database", "disk"), // a group
	}
	if c.downstream != "" {
		conn, err := grpc.NewClient("passthrough:///"+c.downstream, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		// Degrading: orders can be read without it, and no restart and no other replica would mend it.
		opts = append(opts,
			healthsvc.WithCheck("downstream", healthsvc.GRPC(conn, healthsvc.Readiness), healthsvc.Every(c.every), healthsvc.Degrading()),
			healthsvc.WithService("shipping", "downstream"))
	}
	health, err := healthsvc.New(opts...)
	if err != nil {
		return err
	}
	defer health.Close()

	lis, err := net.Listen("tcp", c.grpc)
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", c.http)
	if err != nil {
		_ = lis.Close()
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/health", health.Handler(healthsvc.Details())) // loopback: nobody else reads the errors
	mux.Handle("/health/", health.Handler(healthsvc.Details()))
	endpoint := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := endpoint.Serve(web); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("health endpoint", "error", err)
		}
	}()
	defer func() { // after the gRPC server: during a drain it must answer 503
		_ = endpoint.Close()
		<-served
	}()

	var serverOpts []grpc.ServerOption
	if c.tls {
		creds, err := selfSigned(c.dir)
		if err != nil {
			_ = lis.Close()
			return err
		}
		serverOpts = append(serverOpts, grpc.Creds(creds))
	}
	srv := grpc.NewServer(serverOpts...)
	ordersv1.RegisterOrdersServer(srv, &shop{db: db})
	health.Register(srv)
	reflection.Register(srv)
	listening(lis.Addr().String(), web.Addr().String())
	return health.Serve(ctx, srv, lis)
}

// shop reads orders.
type shop struct {
	ordersv1.UnimplementedOrdersServer
	db *sql.DB
}

// Get reads one order.
func (s *shop) Get(ctx context.Context, in *ordersv1.GetRequest) (*ordersv1.GetResponse, error) {
	o := &ordersv1.Order{Id: in.GetId()}
	err := s.db.QueryRowContext(ctx, "SELECT item, quantity FROM orders WHERE id = ?", in.GetId()).Scan(&o.Item, &o.Quantity)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, status.Errorf(codes.NotFound, "id: there is no order %q", in.GetId())
	case err != nil:
		return nil, status.Error(codes.Unavailable, "the orders cannot be read")
	}
	return &ordersv1.GetResponse{Order: o}, nil
}

// selfSigned makes a certificate for loopback, good for a day, and leaves it in the folder for clients.
func selfSigned(dir string) (credentials.TransportCredentials, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), text, 0o600); err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}), nil
}
