-- What there is in a database that this user may read, from the catalogue alone: it takes no lock
-- on a table, and so waits for nobody. One row of JSON.
with relations as materialized (
    select c.oid, c.relname, c.relkind, c.reltuples, c.relpages, c.reltoastrelid, c.relnamespace,
           n.nspname
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
      and not c.relispartition
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and ($schema$ is null or n.nspname = $schema$)
      and pg_catalog.has_schema_privilege(n.oid, 'usage')
      and pg_catalog.has_any_column_privilege(c.oid, 'select')
), listed as (
    select r.nspname, r.relname,
        pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
            'name', r.relname,
            'kind', case r.relkind when 'p' then 'partitioned table' when 'v' then 'view'
                when 'm' then 'materialized view' when 'f' then 'foreign table' end,
            'rows', case when r.relkind = 'p' then (
                    select pg_catalog.sum(i.reltuples)::bigint
                    from pg_catalog.pg_partition_tree(r.oid) p
                    join pg_catalog.pg_class i on i.oid = p.relid
                    where p.isleaf and i.reltuples >= 0)
                when r.relkind <> 'v' and r.reltuples >= 0 then r.reltuples::bigint end,
            'bytes', case when r.relkind in ('r', 'm') then (
                    select pg_catalog.sum(pages.relpages::bigint)
                    from pg_catalog.pg_class pages
                    where pages.oid in (r.oid, r.reltoastrelid)
                       or pages.oid in (select i.indexrelid from pg_catalog.pg_index i
                                        where i.indrelid in (r.oid, r.reltoastrelid))
                ) * pg_catalog.current_setting('block_size')::bigint end,
            'comment', pg_catalog.left(pg_catalog.obj_description(r.oid, 'pg_class'), 200)
        )) as told
    from relations r
    order by r.nspname, r.relname
    limit 5000
)
select pg_catalog.jsonb_build_object(
    'total', (select pg_catalog.count(*) from relations),
    'database', pg_catalog.jsonb_build_object(
        'name', pg_catalog.current_database(),
        'server_version', pg_catalog.current_setting('server_version'),
        'bytes', pg_catalog.pg_database_size(pg_catalog.current_database()),
        'extensions', (
            select pg_catalog.jsonb_agg(e.extname order by e.extname)
            from pg_catalog.pg_extension e)),
    'schemas', (
        select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('schema', s.nspname, 'tables', s.tables)
            order by s.nspname)
        from (select l.nspname, pg_catalog.jsonb_agg(l.told order by l.relname) as tables
              from listed l group by l.nspname) s)
)::text
