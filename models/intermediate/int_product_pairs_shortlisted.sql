with

product_pairs as (

    select
        left_product_key,
        right_product_key,
        copurchase_count
    from {{ ref('int_product_pairs_counted') }}

),

products as (

    select
        product_key,
        is_in_catalogue
    from {{ ref('int_products_keyed') }}

),

not_recommendable as (

    select product_key
    from products
    where not is_in_catalogue

),

-- Not materialized, because the two steps below read few of these rows each.
directed as not materialized (

    select
        left_product_key as product_key,
        right_product_key as recommended_product_key,
        copurchase_count
    from product_pairs

    union all

    select
        right_product_key as product_key,
        left_product_key as recommended_product_key,
        copurchase_count
    from product_pairs

),

-- Keeping the N largest numbers of a product is many times faster than ranking all its pairs, and
-- most pairs are in one basket only: they are left for the products that need them.
repeated as (

    select
        directed.product_key,
        max(
            {{ pack_rank('directed.copurchase_count', 'directed.recommended_product_key') }},
            {{ recommendations_per_product() }}
        ) as packed_ranks
    from directed
    anti join not_recommendable
        on directed.recommended_product_key = not_recommendable.product_key
    where directed.copurchase_count > 1
    group by directed.product_key

),

complete_products as (

    select product_key
    from repeated
    where len(packed_ranks) = {{ recommendations_per_product() }}

),

incomplete_products as (

    select products.product_key
    from products
    anti join complete_products
        on products.product_key = complete_products.product_key

),

single as (

    select
        directed.product_key,
        max(
            {{ pack_rank('directed.copurchase_count', 'directed.recommended_product_key') }},
            {{ recommendations_per_product() }}
        ) as packed_ranks
    from directed
    semi join incomplete_products
        on directed.product_key = incomplete_products.product_key
    anti join not_recommendable
        on directed.recommended_product_key = not_recommendable.product_key
    where directed.copurchase_count = 1
    group by directed.product_key

),

unnested as (

    select
        product_key,
        unnest(packed_ranks) as packed_rank
    from repeated

    union all

    select
        product_key,
        unnest(packed_ranks) as packed_rank
    from single

),

shortlisted as (

    select
        product_key,
        {{ unpack_product_key('packed_rank') }} as recommended_product_key,
        {{ unpack_copurchase_count('packed_rank') }} as copurchase_count
    from unnested

)

select * from shortlisted
