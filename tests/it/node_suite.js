// node-postgres against a running pgweir: `node node_suite.js NAME`, connection by PG* variables.
'use strict'
const assert = require('assert')
const fs = require('fs')
const { Client, Pool } = require('pg')

const connected = async (options) => {
    const client = new Client(options)
    client.on('error', () => {})
    await client.connect()
    return client
}
const value = async (client, sql, args) =>
    Object.values((await client.query({ text: sql, values: args, rowMode: 'array' })).rows[0])[0]
const fails = async (promise, code) => {
    await assert.rejects(promise, (error) => { assert.strictEqual(error.code, code); return true })
}

const suites = {
    async simple() {
        const client = await connected()
        assert.strictEqual(await value(client, 'SELECT 1'), 1)
        assert.strictEqual(await value(client, 'SELECT $1::int + 1', [41]), 42)
        const many = await client.query('SELECT 1 AS a; SELECT 2 AS b; SELECT 3 AS c')
        assert.deepStrictEqual(many.map((r) => Object.values(r.rows[0])[0]), [1, 2, 3])
        await client.end()
    },

    async transactions() {
        const clients = await Promise.all([1, 2, 3, 4, 5, 6].map(() => connected()))
        await Promise.all(clients.map(async (client, i) => {
            for (let n = 0; n < 10; n++) {
                await client.query('BEGIN')
                const pid = await value(client, 'SELECT pg_backend_pid()')
                assert.strictEqual(await value(client, 'SELECT pg_backend_pid()'), pid)
                assert.strictEqual(await value(client, 'SELECT $1::int', [i]), i)
                await client.query(n % 2 ? 'COMMIT' : 'ROLLBACK')
            }
        }))
        await Promise.all(clients.map((client) => client.end()))
    },

    async errors() {
        const client = await connected()
        await fails(client.query('SELECT 1/0'), '22012')
        await fails(client.query('SELECT $1::int', ['x']), '22P02')
        await client.query('BEGIN')
        await fails(client.query('SELECT nothing'), '42703')
        await fails(client.query('SELECT 1'), '25P02')
        await client.query('ROLLBACK')
        assert.strictEqual(await value(client, 'SELECT 1'), 1)
        await client.end()
    },

    async types() {
        const client = await connected()
        const bytes = Buffer.from([...Array(256).keys()])
        const row = (await client.query('SELECT $1::bytea AS b, $2::json AS j, $3::text[] AS a, $4::timestamptz AS t',
            [bytes, { k: ['v', null] }, ['x', 'y "z"'], new Date(0)])).rows[0]
        assert.ok(bytes.equals(row.b))
        assert.deepStrictEqual(row.j, { k: ['v', null] })
        assert.deepStrictEqual(row.a, ['x', 'y "z"'])
        assert.strictEqual(row.t.getTime(), 0)
        await client.end()
    },

    async prepared() {
        const client = await connected()
        for (let n = 0; n < 30; n++) {
            const got = await client.query({ name: `s${n % 7}`, text: `SELECT $1::int * ${n % 7} AS v`, values: [n] })
            assert.strictEqual(got.rows[0].v, n * (n % 7))
        }
        await fails(client.query({ name: 'broken', text: 'SELEC 1' }), '42601')
        assert.strictEqual(await value(client, 'SELECT 1'), 1)
        await client.end()
    },

    async prepared_everywhere() {
        const clients = await Promise.all([...Array(10).keys()].map(() => connected()))
        await Promise.all(clients.map(async (client, i) => {
            for (let n = 0; n < 30; n++) {
                // The same name means another text for every other client.
                const got = await client.query({ name: 'same', text: `SELECT $1::int + ${i % 2} AS v`, values: [n] })
                assert.strictEqual(got.rows[0].v, n + (i % 2))
            }
        }))
        await Promise.all(clients.map((client) => client.end()))
    },

    async cancel() {
        const client = await connected()
        const other = await connected()
        const pid = client.processID
        const running = fails(client.query('SELECT pg_sleep(20)'), '57014')
        await new Promise((resolve) => setTimeout(resolve, 300))
        // node-postgres has a cancel of its own, on a connection of its own.
        const canceller = new Client()
        canceller.cancel(client, client.activeQuery || client._getActiveQuery())
        await running
        assert.strictEqual(client.processID, pid)
        assert.strictEqual(await value(client, 'SELECT 1'), 1)
        assert.strictEqual(await value(other, 'SELECT 2'), 2)
        await client.end()
        await other.end()
    },

    async pool() {
        const pool = new Pool({ max: 20 })
        const got = await Promise.all([...Array(300).keys()].map(
            (n) => pool.query('SELECT $1::int AS v', [n]).then((r) => r.rows[0].v)))
        assert.deepStrictEqual(got, [...Array(300).keys()])
        await pool.end()
    },

    async big() {
        const client = await connected()
        const text = 'ü'.repeat(2 << 20)
        assert.strictEqual(await value(client, 'SELECT $1::text', [text]), text)
        const rows = (await client.query('SELECT i FROM generate_series(1, 50000) i')).rows
        assert.strictEqual(rows.length, 50000)
        await client.end()
    },

    async options() {
        const one = await connected({ options: '-c search_path=shelf', statement_timeout: 7000 })
        const two = await connected()
        for (let n = 0; n < 2; n++) {
            assert.strictEqual(await value(one, 'SHOW search_path'), 'shelf')
            assert.strictEqual(await value(one, 'SHOW statement_timeout'), '7s')
            assert.strictEqual(await value(two, 'SHOW search_path'), '"$user", public')
            assert.strictEqual(await value(two, 'SHOW statement_timeout'), '0')
        }
        await one.end()
        await two.end()
    },

    // A class of one place: the holder has it, the other is refused, stays usable, and gets in later.
    async refused() {
        const holder = await connected()
        const pool = new Pool({ max: 1 })
        pool.on('error', (error) => { throw error })
        const warm = await pool.connect()
        const { processID } = warm
        warm.release()
        await holder.query('BEGIN')
        await holder.query('SELECT 1')
        const shed = (error) => {
            assert.strictEqual(error.code, '53000')
            assert.match(error.message, /^pgweir: class "bulk" is being shed on backend /)
            assert.match(error.detail, /^latency breaker throttled for /)
            assert.match(error.hint, /^retry_after=\d+s\. /)
            return true
        }
        await assert.rejects(pool.query('SELECT 1'), shed)
        await assert.rejects(pool.query('SELECT $1::int', [1]), shed)
        await assert.rejects(pool.query({ name: 'named', text: 'SELECT $1::int', values: [1] }), shed)
        await assert.rejects(pool.query('BEGIN'), shed)
        await holder.query('COMMIT')
        assert.strictEqual(await value(pool, 'SELECT $1::int', [2]), 2)
        const again = await pool.query({ name: 'named', text: 'SELECT $1::int AS n', values: [3] })
        assert.strictEqual(again.rows[0].n, 3)
        const same = await pool.connect()
        assert.strictEqual(same.processID, processID) // the pool has not thrown it away
        same.release()
        await pool.end()
        await holder.end()
    },

    // Somebody cancels the class while this runs.
    async cancelled() {
        const client = await connected()
        await assert.rejects(client.query('SELECT pg_sleep(60)'), (error) => {
            assert.strictEqual(error.code, '57014')
            assert.match(error.message, /^pgweir: statement of class "bulk" was cancelled on backend /)
            assert.match(error.hint, /^retry_after=\d+s\. /)
            return true
        })
        assert.strictEqual(await value(client, 'SELECT 1'), 1)
        await client.end()
    },

    async turned_away() {
        await assert.rejects(connected(), (error) => {
            assert.strictEqual(error.code, process.env.CODE)
            assert.match(error.message, /^pgweir: class "bulk" is being shed on backend /)
            return true
        })
    },

    async tls() {
        const ssl = { ca: fs.readFileSync(process.env.CA, 'utf8') }
        const client = await connected({ ssl, host: 'localhost' })
        assert.strictEqual(await value(client, 'SELECT current_user::text'), 'app')
        await client.end()
        await fails(connected({ ssl, host: 'localhost', password: 'wrong' }), '28P01')
        await assert.rejects(connected({ host: 'localhost', ssl: false }))
    },
}

suites[process.argv[2]]().then(
    () => process.exit(0),
    (error) => { console.error(error); process.exit(1) })
