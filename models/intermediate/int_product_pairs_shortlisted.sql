with

products as (

    select
        product_id,
        product_key,
        basket_count,
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

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

-- Keeping the N largest numbers of a product is many times faster than ranking all its pairs, and
-- most pairs are in one basket only: they are left for the products that need them.
repeated as (

    select
        directed.product_key,
        max(
            {{ pack_rank('directed.copurchase_count', 'directed.other_product_key') }},
            {{ var('recommendations_per_product') }}
        ) as packed_ranks
    from directed
    anti join not_recommendable
        on directed.other_product_key = not_recommendable.product_key
    where directed.copurchase_count > 1
    group by directed.product_key

),

complete_products as (

    select product_key
    from repeated
    where len(packed_ranks) = {{ var('recommendations_per_product') }}

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
            {{ pack_rank('directed.copurchase_count', 'directed.other_product_key') }},
            {{ var('recommendations_per_product') }}
        ) as packed_ranks
    from directed
    semi join incomplete_products
        on directed.product_key = incomplete_products.product_key
    anti join not_recommendable
        on directed.other_product_key = not_recommendable.product_key
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

unpacked as (

    select
        product_key,
        {{ unpack_product_key('packed_rank') }} as other_product_key,
        {{ unpack_copurchase_count('packed_rank') }} as copurchase_count
    from unnested

),

shortlisted as (

    select
        product.product_id,
        recommended_product.product_id as recommended_product_id,
        recommended_product.basket_count as recommended_basket_count,
        unpacked.copurchase_count
    from unpacked
    inner join products as product
        on unpacked.product_key = product.product_key
    inner join products as recommended_product
        on unpacked.other_product_key = recommended_product.product_key

)

select * from shortlisted
