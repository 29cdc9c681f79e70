-- What the restaurant's database begins with: small, with foreign keys, and with the
-- types that clients tend to get wrong.
create table customers (
    id          integer generated always as identity primary key,
    name        text not null,
    email       text not null unique,
    joined_on   date not null,
    preferences jsonb not null default '{}',
    tags        text[] not null default '{}'
);
create table rolls (
    id         integer generated always as identity primary key,
    name       text not null unique,
    price      numeric(6, 2) not null check (price > 0),
    vegetarian boolean not null,
    pieces     smallint not null,
    photo      bytea
);
create table orders (
    id          bigint generated always as identity primary key,
    customer_id integer not null references customers,
    placed_at   timestamptz not null,
    note        text
);
create table order_items (
    order_id bigint not null references orders on delete cascade,
    roll_id  integer not null references rolls,
    quantity smallint not null check (quantity > 0),
    primary key (order_id, roll_id)
);
create index on orders (customer_id);
create index on order_items (roll_id);

insert into customers (name, email, joined_on, preferences, tags)
select first || ' ' || last,
       lower(first) || '.' || lower(last) || '@example.com',
       date '2024-02-29' + ((f * 37 + l * 11) % 640)::int,
       jsonb_build_object('spicy', (f + l) % 2 = 0, 'chopsticks', (f * l) % 3, 'allergies',
           case when (f + l) % 5 = 0 then '["sesame"]'::jsonb else '[]'::jsonb end),
       case (f + l) % 3 when 0 then '{}'::text[] when 1 then '{regular}' else '{regular,"lunch, mostly"}' end
from unnest(array['Aiko', 'Ben', 'Chloé', 'Dario', 'Emi', 'Farid', 'Greta', 'Hiro']) with ordinality as a (first, f),
     unnest(array['Abe', 'Berg', 'Costa', 'Dunn', 'Endo']) with ordinality as b (last, l);

insert into rolls (name, price, vegetarian, pieces, photo) values
    ('California', 7.50, false, 8, null),
    ('Cucumber', 4.20, true, 6, null),
    ('Avocado', 4.90, true, 6, null),
    ('Spicy Tuna', 8.10, false, 8, '\x89504e470d0a1a0a'),
    ('Salmon', 6.80, false, 6, null),
    ('Dragon', 12.40, false, 8, '\xffd8ffe000104a46'),
    ('Rainbow', 13.00, false, 8, null),
    ('Philadelphia', 8.60, false, 8, null),
    ('Tamago', 5.10, true, 6, null),
    ('Unagi', 9.90, false, 6, null),
    ('Shiitake', 5.60, true, 6, null),
    ('玉子 Special', 10.00, true, 4, null);

insert into orders (customer_id, placed_at, note)
select 1 + (n * 7) % 40,
       timestamptz '2026-01-01 11:30:00.123456+00' + n * interval '13 hours 7 minutes',
       case when n % 9 = 0 then 'no wasabi, please' end
from generate_series(1, 300) as n;

insert into order_items (order_id, roll_id, quantity)
select o.id, (1 + (o.id * 5 + i * 3) % 12)::int, (1 + (o.id + i) % 3)::smallint
from orders as o, generate_series(0, 2) as i
where i <= o.id % 3;

create view takings as
select r.name as roll, sum(i.quantity) as sold, sum(i.quantity * r.price) as revenue
from order_items as i join rolls as r on r.id = i.roll_id
group by r.name
order by revenue desc;

-- Made when it is read: some 200 MB if all of it is.
create view big as
select n as id, repeat(md5(n::text), 3) as payload
from generate_series(1, 2000000) as n;

analyze;
