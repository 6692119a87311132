with

products as (

    select
        product_id,
        count(*) as recommendation_count,
        max(recommendation_rank) as last_rank
    from {{ ref('product_recommendations') }}
    group by product_id

)

select * from products
where
    recommendation_count <> last_rank
    or last_rank > {{ var('recommendations_per_product') }}
