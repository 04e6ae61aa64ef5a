package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // SQLite in Go alone: no C compiler, no server
)

// open opens the file. A reader waits 200 ms for a lock, so that a check fails before its timeout.
func open(dir string) (*sql.DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := url.URL{Scheme: "file", Opaque: filepath.Join(dir, "orders.db"), RawQuery: "_pragma=busy_timeout(200)"}
	return sql.Open("sqlite", file.String())
}

// openOrders opens the database and gives it a first order.
func openOrders(ctx context.Context, dir string) (*sql.DB, error) {
	db, err := open(dir)
	if err != nil {
		return nil, err
	}
	for _, q := range []string{
		"CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, item TEXT NOT NULL, quantity INTEGER NOT NULL)",
		"INSERT OR IGNORE INTO orders VALUES ('o-1', 'lamp', 1)",
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			_ = db.Close()
			return nil, fmt.Errorf("orders: %w", err)
		}
	}
	return db, nil
}

// hold locks the database for itself, as a migration does that hangs: nobody else can read or write it.
func hold(ctx context.Context, dir string, d time.Duration) error {
	db, err := open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // what was written is committed
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		return err
	}
	fmt.Println("locked")
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	_, err = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return err
}
